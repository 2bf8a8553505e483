"""Places of tasks: the same whenever a handler runs again."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from regrow.actors import ActorError
from regrow.actors.lineage import Lineage, current, path_of, rooted, task_factory, track_again, untrack

pytestmark = pytest.mark.asyncio

PATHS: dict[str, str] = {}


async def note(name: str) -> None:
    PATHS[name] = current().path


async def under(root: Lineage, body: Callable[[], Coroutine[Any, Any, None]]) -> dict[str, str]:
    """Runs the body as a handler is run; the paths that were noted."""
    PATHS.clear()
    loop = asyncio.get_running_loop()
    loop.set_task_factory(task_factory)
    try:
        await loop.create_task(body(), context=rooted(root))
    finally:
        loop.set_task_factory(None)
    return dict(PATHS)


async def test_tasks_are_numbered_by_the_task_that_starts_them() -> None:
    async def pair(name: str) -> None:
        await asyncio.gather(note(f"{name}1"), note(f"{name}2"))

    async def body() -> None:
        await note("own")
        await asyncio.gather(note("a"), pair("b"))
        async with asyncio.TaskGroup() as group:
            group.create_task(note("c"))
        await asyncio.create_task(note("d"))

    assert await under(Lineage(), body) == {"own": "", "a": ".0", "b1": ".1.0", "b2": ".1.1", "c": ".2", "d": ".3"}


async def test_as_completed_is_numbered_as_given() -> None:
    async def body() -> None:
        for _ in range(2):
            for each in asyncio.as_completed([note(str(number)) for number in range(40)]):
                await each

    paths = await under(Lineage(), body)
    assert paths == {str(number): f".{number + 40}" for number in range(40)}


async def test_as_completed_of_what_has_no_order_is_refused() -> None:
    async def body() -> None:
        with pytest.raises(ActorError, match="give as_completed a list"):
            for each in asyncio.as_completed({note("a"), note("b"), asyncio.get_running_loop().create_future()}):
                await each

    assert await under(Lineage(), body) == {}


async def test_wait_for_makes_no_place_of_its_own() -> None:
    async def body() -> None:
        await asyncio.wait_for(note("a"), 1.0)
        await asyncio.create_task(note("b"))

    assert await under(Lineage(), body) == {"a": "", "b": ".0"}


async def test_a_thread_has_the_place_of_its_caller() -> None:
    def in_thread() -> None:
        PATHS["thread"] = current().path
        assert threading.current_thread() is not threading.main_thread()

    async def body() -> None:
        await asyncio.create_task(asyncio.to_thread(in_thread))

    assert await under(Lineage(), body) == {"thread": ".0"}


async def test_what_is_untracked_starts_tasks_without_a_place() -> None:
    root = Lineage()

    async def body() -> None:
        token = untrack()
        await asyncio.create_task(note("a"))
        track_again(token)
        await asyncio.create_task(note("b"))

    assert await under(root, body) == {"a": "", "b": ".0"}
    assert current() is not current()


async def test_a_given_context_gets_the_place_too() -> None:
    async def body() -> None:
        await asyncio.get_running_loop().create_task(note("a"), context=rooted(Lineage(".elsewhere")))

    assert await under(Lineage(), body) == {"a": ".0"}


async def test_a_family_holds_the_tasks_that_run() -> None:
    root = Lineage()

    async def body() -> None:
        task = asyncio.create_task(note("a"))
        waiting = asyncio.wait_for(asyncio.sleep(0), 1.0)
        assert set(root.family) == {task}
        await waiting
        await task

    await under(root, body)
    assert not root.family


async def test_a_path_is_over_when_its_task_has_ended_or_can_never_start() -> None:
    root = Lineage()
    gate = asyncio.Event()

    async def body() -> None:
        ended, waits = asyncio.create_task(note("a")), asyncio.create_task(gate.wait())
        await ended
        assert root.is_over(".0")
        assert root.is_over(".0.5"), "it could only be started by a task that has ended"
        assert not root.is_over(".1")
        assert not root.is_over(".1.0"), "its parent may still start it"
        assert not root.is_over(".2")
        gate.set()
        await waits

    await under(root, body)
    assert not root.is_over("")


async def test_equal_calls_of_one_task_are_counted() -> None:
    place = Lineage(".1")
    keys = [place.next_key("work", digest).text for digest in ("d", "d", "e")]
    assert keys == [".1/work/d/0", ".1/work/d/1", ".1/work/e/0"]
    assert path_of(keys[0]) == ".1"
