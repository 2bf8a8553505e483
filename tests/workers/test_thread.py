import asyncio
import threading

import pytest
from tests.workers.observed import Observed

from regrow.supervisor import Supervisor
from regrow.supervisor.exits import Crashed, Hung, Shutdown
from regrow.workers import Thread, thread_child


@pytest.mark.asyncio
async def test_a_thread_is_asked_to_end_by_its_event() -> None:
    names: list[str] = []

    def serve(stop: threading.Event) -> None:
        stop.wait()
        names.append(threading.current_thread().name)

    async with Supervisor("root", children=[thread_child("scanner", serve)]) as tree:
        assert names == []
    assert names == ["scanner"]
    (info,) = tree.which_children()
    assert info.last == Shutdown()


@pytest.mark.asyncio
async def test_an_exception_of_the_thread_is_the_childs_crash_and_it_is_started_again() -> None:
    error = ValueError("no such route")
    runs: list[int] = []

    def serve(stop: threading.Event) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise error
        stop.wait()

    child = Observed(Thread("scanner", serve))
    async with Supervisor("root", children=[child.child()]):
        assert (await child.starts.get()).cause is None
        assert (await child.starts.get()).cause == Crashed(error)


@pytest.mark.asyncio
async def test_a_thread_that_returns_has_finished() -> None:
    child = Observed(Thread("scanner", lambda stop: None))
    async with Supervisor("root", children=[child.child(restart="transient")]):
        assert await child.ends.get() is None


@pytest.mark.asyncio
async def test_an_exception_while_it_ends_is_a_crash_too() -> None:
    error = ValueError("could not be put away")

    def serve(stop: threading.Event) -> None:
        stop.wait()
        raise error

    async with Supervisor("root", children=[thread_child("scanner", serve)]) as tree:
        pass
    (info,) = tree.which_children()
    assert info.last == Crashed(error)


@pytest.mark.asyncio
async def test_a_thread_that_does_not_end_is_hung() -> None:
    released = threading.Event()

    def serve(stop: threading.Event) -> None:
        released.wait()

    child = Observed(Thread("scanner", serve))
    async with Supervisor("root", children=[child.child(shutdown=0.05)]) as tree:
        pass
    (info,) = tree.which_children()
    released.set()
    assert info.last == Hung(0.05)
    assert isinstance(await child.ends.get(), asyncio.CancelledError)
