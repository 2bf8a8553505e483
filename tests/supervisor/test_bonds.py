"""Links, monitors, names, groups and progress deadlines of children of supervisors, beside lone processes."""

import asyncio

import pytest

from regrow.supervisor import (
    Backoff,
    ChildSpec,
    Crashed,
    Exit,
    ExitSignal,
    Killed,
    Shutdown,
    Start,
    Supervisor,
    TimedOut,
)
from regrow.supervisor.groups import Groups
from regrow.supervisor.link import kill, link, trap_exits
from regrow.supervisor.monitor import monitor
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.process import processes
from regrow.supervisor.progress import Lookout
from regrow.supervisor.registry import Registry

pytestmark = pytest.mark.asyncio
AT_ONCE = Backoff(first_s=0.0)


class Troupe:
    """Children that write down with which causes they were started, and are found by name."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.causes: dict[str, list[Exit | None]] = {}

    def spec(self, name: str) -> ChildSpec:
        async def play(start: Start) -> None:
            self.causes.setdefault(name, []).append(start.cause)
            self.registry.register(name, start.me)
            start.ready()
            await asyncio.Event().wait()

        return ChildSpec(id=name, run=play, backoff=AT_ONCE)

    def find(self, name: str) -> Mortal:
        found = self.registry.whereis(name)
        assert found is not None
        return found


async def test_a_child_linked_to_another_dies_with_it_and_both_are_restarted_with_the_cause() -> None:
    troupe = Troupe()
    async with Supervisor("root", children=[troupe.spec("a"), troupe.spec("b")]):
        a, b = troupe.find("a"), troupe.find("b")
        link(a, b)
        kill(a)
        await asyncio.sleep(1.0)
        assert troupe.causes == {"a": [None, Killed(9)], "b": [None, Killed(9)]}
        assert (troupe.find("a") is a, troupe.find("b") is b) == (False, False)


async def test_a_new_incarnation_is_not_linked() -> None:
    troupe = Troupe()
    async with Supervisor("root", children=[troupe.spec("a"), troupe.spec("b")]):
        link(troupe.find("a"), troupe.find("b"))
        kill(troupe.find("a"))
        await asyncio.sleep(1.0)
        kill(troupe.find("a"))
        await asyncio.sleep(1.0)
        assert len(troupe.causes["a"]) == 3
        assert len(troupe.causes["b"]) == 2


async def test_a_process_linked_to_a_child_dies_when_the_tree_stops() -> None:
    troupe = Troupe()

    async def wait(me: Mortal) -> None:
        await asyncio.Event().wait()

    async with processes() as space:
        process = space.spawn(wait)
        async with Supervisor("root", children=[troupe.spec("a")]):
            link(process, troupe.find("a"))
        assert await process.wait_gone() == Shutdown()


async def test_a_child_that_traps_exits_outlives_those_it_is_linked_to_and_still_stops_with_its_tree() -> None:
    heard: list[ExitSignal] = []

    async def listen(start: Start) -> None:
        with trap_exits(start.me) as exits:
            link(start.me, troupe.find("a"))
            start.ready()
            async for signal in exits:
                heard.append(signal)  # noqa: PERF401 - heard as they come

    troupe = Troupe()
    async with Supervisor("root", children=[troupe.spec("a"), ChildSpec(id="keeper", run=listen)]) as tree:
        a = troupe.find("a")
        kill(a)
        await asyncio.sleep(1.0)
        assert [child.restarts for child in tree.which_children()] == [1, 0]
    assert heard == [ExitSignal(a, Killed(9))]


async def test_a_child_without_progress_is_restarted_and_told_that_it_was_late() -> None:
    troupe = Troupe()
    async with Supervisor("root", children=[troupe.spec("a")]):
        with Lookout() as lookout:
            lookout.over(troupe.find("a"), deadline_s=30.0)
            await asyncio.sleep(31.0)
            assert troupe.causes == {"a": [None, TimedOut(30.0)]}


async def test_a_monitor_and_a_group_of_a_child_are_told_before_it_is_restarted() -> None:
    troupe, groups, told = Troupe(), Groups(), list[tuple[Exit, int]]()
    async with Supervisor("root", children=[troupe.spec("a")]) as tree:
        groups.join("players", troupe.find("a"))
        monitor(troupe.find("a"), lambda cause: told.append((cause, tree.which_children()[0].restarts)))
        kill(troupe.find("a"))
        await asyncio.sleep(1.0)
        assert told == [(Killed(9), 0)]
        assert groups.members("players") == ()


@pytest.mark.parametrize("turns", range(8))
async def test_a_linked_pair_whose_tree_is_stopped_at_any_moment_of_a_death_leaves_nothing_running(turns: int) -> None:
    troupe = Troupe()

    async def fail(me: Mortal) -> None:
        raise ValueError

    async with processes() as space:
        async with Supervisor("root", children=[troupe.spec("a"), troupe.spec("b")]):
            failing = space.spawn(fail)
            link(failing, troupe.find("a"))
            link(troupe.find("a"), troupe.find("b"))
            for _ in range(turns):
                await asyncio.sleep(0)
        assert isinstance(await failing.wait_gone(), Crashed)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert troupe.registry.names() == ()
