"""Cancellation at every step of a supervisor's life: the tree always ends stopped, in reverse, with nothing left running.

A scenario with everything in it is run once to count its turns of the event loop. Then it is run again for each of
them, and there someone is cancelled: who uses the supervisor, the supervisor's own task, or it is told to stop.
"""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

import pytest
import structlog
from tests.supervisor.conftest import JumpingSelector, VirtualTimeLoop
from tests.supervisor.puppet import AT_ONCE

from regrow.supervisor import (
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Intensity,
    Start,
    StartFailed,
    Supervisor,
)

Blow = Literal["the user is cancelled", "the user is cancelled twice", "the supervisor is cancelled", "stop is called"]


class CountingSelector(JumpingSelector):
    """Knows which turn of the loop it is, and calls back at one of them."""

    step = 0
    at = -1

    def __init__(self) -> None:
        super().__init__()
        self.strike: Callable[[], object] = lambda: None

    def select(self, timeout: float | None = None) -> list[tuple[object, int]]:  # type: ignore[override]
        self.step += 1
        if self.step == self.at:
            self.strike()
            timeout = 0
        return super().select(timeout)  # type: ignore[return-value]


class Leaf:
    """A child that tells how it went: by itself (died), because it was stopped (went), or by a call (left)."""

    def __init__(self, world: "World", name: str, place: tuple[int, ...], cleaning_s: float) -> None:
        self.world, self.name, self.place, self.cleaning_s = world, name, place, cleaning_s
        self.came = 0
        self.fails = 0
        self.leaving = False
        self.fate: asyncio.Future[None] | None = None
        self.changed = asyncio.Event()

    async def run(self, start: Start) -> None:
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise OSError("no port")
        self.fate = asyncio.get_running_loop().create_future()
        self.world.alive.append(self)
        self.came += 1
        start.ready()
        self.changed.set()
        how = "died"
        try:
            await self.fate
        except asyncio.CancelledError:
            how = "left" if self.leaving else "went"
            raise
        finally:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(self.cleaning_s)
            self.world.alive.remove(self)
            self.world.gone.append((how, self))

    async def crash(self, came: int) -> None:
        """Let it die, and wait until it has come so often."""
        assert self.fate is not None
        self.fate.set_exception(ValueError())
        while self.came < came:
            self.changed.clear()
            await self.changed.wait()

    def spec(self, backoff: Backoff = AT_ONCE) -> ChildSpec:
        return ChildSpec(id=self.name, run=self.run, backoff=backoff)


class World:
    """One run of the scenario."""

    def __init__(self) -> None:
        self.alive: list[Leaf] = []
        self.gone: list[tuple[str, Leaf]] = []
        self.a, self.c, self.e = self.leaf("a", (0,)), self.leaf("c", (2,), 0.5), self.leaf("e", (4,))
        self.b = [self.leaf(f"b{n}", (1, n)) for n in range(3)]
        self.pool = DynamicSupervisor("pool", draw=lambda: 0.0)
        self.inner = Supervisor(
            "inner", strategy="rest_for_one", children=[leaf.spec() for leaf in self.b], intensity=Intensity(3)
        )
        patient = Backoff(first_s=2.0)
        children = [self.a.spec(), self.inner.child_spec(), self.c.spec(patient), self.pool.child_spec()]
        self.root = Supervisor("root", children=children, draw=lambda: 0.5)

    def leaf(self, name: str, place: tuple[int, ...], cleaning_s: float = 0.0) -> Leaf:
        return Leaf(self, name, place, cleaning_s)

    async def live(self) -> None:
        """Everything that can happen to a tree, and in the end all of it is stopped."""
        a, c, e, (b0, b1, b2) = self.a, self.c, self.e, self.b
        async with self.root as root:
            await a.crash(2)
            await b0.crash(2)
            b1.fails = 1
            await b0.crash(3)
            await self._calls(root, e)
            await self._dynamic()
            await c.crash(2)
            await b0.crash(4)  # one too many: the inner supervisor gives up and is restarted
            await b2.crash(b2.came + 1)

    async def _calls(self, root: Supervisor, e: Leaf) -> None:
        e.fails = 1
        with pytest.raises(StartFailed):
            await root.start_child(e.spec())
        await root.start_child(e.spec())
        e.leaving = True
        await root.terminate_child("e")
        e.leaving = False
        await root.restart_child("e")
        e.leaving = True
        await root.terminate_child("e")
        await root.delete_child("e")

    async def _dynamic(self) -> None:
        leaves = [self.leaf(f"d{n}", (3,), 0.1 * n) for n in range(3)]
        await asyncio.gather(*(self.pool.start_child(leaf.spec()) for leaf in leaves))
        await leaves[0].crash(2)
        leaves[1].leaving = True
        await self.pool.terminate_child("d1")


def run(at: int, blow: Blow) -> int:
    """Run the scenario, strike at that turn, check what is left; returns how many turns it took."""
    complaints: list[dict[str, object]] = []
    selector = CountingSelector()
    selector.at = at
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(selector)) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        turns = runner.run(_struck(selector, blow))
        left = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined] # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportAttributeAccessIssue, reportUnknownArgumentType]
        assert left == [], "a timer is left"
    gc.collect()
    assert complaints == []
    return turns


async def _struck(selector: CountingSelector, blow: Blow) -> int:
    world = World()
    user = asyncio.create_task(world.live())
    before: list[int] = []

    def strike() -> None:
        before.append(len(world.gone))
        own = world.root._task  # pyright: ignore[reportPrivateUsage]
        if blow == "stop is called" and own is not None:
            stopping.append(asyncio.ensure_future(world.root.stop()))
        elif blow == "the supervisor is cancelled" and own is not None:
            own.cancel()
        else:
            user.cancel()
            if blow == "the user is cancelled twice":
                selector.at, selector.strike = selector.step + 3, user.cancel

    stopping: list[asyncio.Future[None]] = []
    selector.strike = strike
    try:
        await _until_stopped(world, user, bool(blow.startswith("the user")))
    finally:
        selector.at = -1
        user.cancel()
        await asyncio.wait([user, *stopping])
    assert world.alive == [], "a child is left"
    assert len(asyncio.all_tasks()) == 1, "a task is left"
    if before:
        _check_order([leaf.place for how, leaf in world.gone[before[0] :] if how == "went"])
    return selector.step


def _check_order(stopped: list[tuple[int, ...]]) -> None:
    """The children of each supervisor in reverse, and the first child of all as the last.

    Some may be stopped and come back, or an inner supervisor may give up, before the stopping reaches them.
    """
    last = {place: index for index, place in enumerate(stopped)}
    for supervisor in (0, 1):
        order = sorted((place for place in last if len(place) == supervisor + 1), key=last.__getitem__)
        order = [place for place in order if place != (3,)]  # its children all stop at once
        assert order == sorted(order, reverse=True), "not in reverse"
    assert stopped.index((0,)) == len(stopped) - 1 if (0,) in stopped else True, "the first child is not the last"


async def _until_stopped(world: World, user: "asyncio.Task[None]", by_user: bool) -> None:
    """Until who uses the tree has gone, or the tree has: its user may then wait for something that cannot come any more."""
    if not by_user:
        await asyncio.sleep(0)  # it enters the tree in its first step
        if (own := world.root._task) is not None:  # pyright: ignore[reportPrivateUsage]
            await asyncio.wait([own])
            assert world.alive == [], "a child outlives its supervisor"
            return
    await asyncio.wait([user])


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    gc.freeze()  # each run is searched for what it left, and nothing else
    yield
    gc.unfreeze()
    structlog.configure(**before)


@pytest.mark.parametrize(
    "blow",
    ["the user is cancelled", "the user is cancelled twice", "the supervisor is cancelled", "stop is called"],
)
def test_whenever_it_comes_nothing_is_left_and_all_stopped_in_reverse(blow: Blow) -> None:
    turns = run(-1, blow)
    assert turns > 60
    for at in range(1, turns):
        try:
            run(at, blow)
        except BaseException as error:
            error.add_note(f"{blow} at turn {at} of {turns}")
            raise
