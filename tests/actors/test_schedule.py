"""Schedules on a bus in memory and on a real server: what is due runs once, whatever is restarted, changed or late.

The clock of a schedule is the test's. The server's is not, and holds a timer that is due in the past for due: so a schedule whose
clock stands in the past runs through its due times as fast as its runs let it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from regrow.actors import (
    Actor,
    DefinitionError,
    Event,
    Message,
    Node,
    Refused,
    System,
    command,
    event,
    query,
    scheduler,
)
from regrow.actors.schedule import RESERVED, Schedule
from regrow.actors.scheduler import Due, Scheduler, Standing, Stands
from regrow.bus import Address, Bus, EmbeddedServer, Unreachable, open_bus
from regrow.bus.connection import ServerAddress, close, connect

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]

NIGHT = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)
NAME = "rounds"


class Round(Message[None]):
    said: str = ""


class Walked(Event):
    said: str


class Rounds(Message[list[str]]):
    pass


class Watchman(Actor):
    rounds: list[str] = []

    @command
    async def walk(self, msg: Round) -> None:
        self.emit(Walked(said=msg.said))
        walk: Walk = self.port("walk")
        walk.begun.put_nowait(msg.said)
        await walk.may_end.acquire()
        if walk.trouble is not None:
            raise walk.trouble

    @query
    async def say(self, msg: Rounds) -> list[str]:
        return self.rounds

    @event
    def walked(self, fact: Walked) -> None:
        self.rounds.append(fact.said)


class Walk:
    """How the test sees runs begin, and lets them end."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.may_end = asyncio.Semaphore(0)
        self.trouble: Exception | None = None

    async def end(self, count: int = 1) -> None:
        """Lets the run under way end, and waits until the next one has begun; and so on."""
        for _ in range(count):
            self.may_end.release()
            await self.begun.get()


class Clock:
    """The time that schedules see: ``now``, after the readings that were given before."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.first: list[datetime] = []

    def __call__(self) -> int:
        return ms(self.first.pop(0) if self.first else self.now)


def ms(time: datetime) -> int:
    return int(time.timestamp()) * 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of schedules, half past midnight."""
    made = Clock(NIGHT)
    monkeypatch.setattr(scheduler, "now_ms", made)
    return made


@pytest_asyncio.fixture
async def walk() -> Walk:
    return Walk()


def rounds(cron: str = "0 * * * *", said: str = "", **options: Any) -> Schedule:
    return Schedule(cron, to=Watchman, key="bob", send=Round(said=said), name=NAME, **options)


@asynccontextmanager
async def serving(bus: Bus, walk: Walk, *schedules: Schedule) -> AsyncGenerator[Node]:
    system = System(bus.subjects.app, actors=[Watchman], schedules=schedules, ports={"walk": walk}).checked()
    async with system.host(bus) as node:
        yield node


async def stands(node: Node) -> Standing:
    return await node.ref(Scheduler, NAME).ask(Stands())


async def stands_when(node: Node, holds: Callable[[Standing], bool]) -> Standing:
    while not holds(standing := await stands(node)):
        pass
    return standing


async def walked(node: Node) -> int:
    done = await node.ref(Watchman, "bob").ask(Rounds())
    return len(done)


async def test_a_schedule_is_kept_by_an_actor_that_is_none_of_the_applications_kinds(bus: Bus, walk: Walk) -> None:
    async with serving(bus, walk, rounds("0 0 1 1 *")) as node:
        standing = await stands_when(node, lambda standing: standing.plan is not None)
        assert standing.agenda.due_ms > ms(datetime.now(UTC))
        assert RESERVED not in node.system.kinds


async def test_a_due_time_that_comes_during_a_run_is_left_out(bus: Bus, walk: Walk, clock: Clock) -> None:
    async with serving(bus, walk, rounds(run_timeout_s=36_000)) as node:
        await walk.begun.get()
        clock.now = NIGHT + timedelta(hours=4)  # 2, 3 and 4 o'clock have passed
        await walk.end()
        standing = await stands(node)
        assert (standing.runs, standing.dropped) == (1, 3)
        assert standing.agenda.due_ms == ms(NIGHT + timedelta(hours=4.5))


async def test_a_run_that_is_not_over_in_time_is_in_nobodys_way(bus: Bus, walk: Walk, clock: Clock) -> None:
    async with serving(bus, walk, rounds(run_timeout_s=3_600)) as node:
        await walk.begun.get()
        clock.now = NIGHT + timedelta(hours=4)
        await walk.end()
        standing = await stands(node)
        assert (standing.runs, standing.dropped) == (1, 1), "2 o'clock was within the hour"
        assert standing.agenda.due_ms == ms(NIGHT + timedelta(hours=2.5)), "3 and 4 were missed: one run for both"
        clock.now = NIGHT + timedelta(hours=4.25)
        await walk.end()
        standing = await stands(node)
        assert (standing.runs, standing.dropped) == (2, 2)


async def test_what_comes_due_during_a_run_is_queued_and_runs_one_by_one(bus: Bus, walk: Walk, clock: Clock) -> None:
    async with serving(bus, walk, rounds(overlap="queue", run_timeout_s=36_000)) as node:
        await walk.begun.get()
        clock.now = NIGHT + timedelta(hours=4)
        await walk.end()
        standing = await stands(node)
        assert standing.agenda.waiting == tuple(ms(NIGHT + timedelta(hours=h + 0.5)) for h in (1, 2, 3))
        await walk.end(3)  # the third to end is the last of the queue, and the one that begins is due at five
        standing = await stands(node)
        assert (standing.runs, standing.dropped, standing.agenda.waiting) == (4, 0, ())
        assert await walked(node) == 4


async def test_runs_that_may_overlap_are_sent_without_a_look_back(bus: Bus, walk: Walk, clock: Clock) -> None:
    async with serving(bus, walk, rounds(overlap="allow")) as node:
        await walk.begun.get()
        standing = await stands_when(node, lambda standing: standing.runs >= 3)
        assert standing.dropped == 0
        assert walk.begun.empty(), "they wait in the mailbox of the one who is busy"


@pytest.mark.parametrize(("missed", "runs", "dropped"), [("once", 1, 9), ("skip", 0, 10), ("all", 10, 0)])
async def test_due_times_that_passed_while_nobody_served(
    bus: Bus, walk: Walk, clock: Clock, missed: Any, runs: int, dropped: int
) -> None:
    clock.first = [NIGHT]  # planned then, and looked at again ten hours later
    clock.now = NIGHT + timedelta(hours=10)
    async with serving(bus, walk, rounds(missed=missed)) as node:
        await walk.begun.get()
        await walk.end(runs)
        standing = await stands(node)
        assert (standing.runs, standing.dropped) == (runs, dropped)
        assert standing.agenda.due_ms == ms(NIGHT + timedelta(hours=10.5))


async def test_what_is_a_little_late_is_on_time(bus: Bus, walk: Walk, clock: Clock) -> None:
    clock.first = [NIGHT]
    clock.now = NIGHT + timedelta(minutes=31)
    async with serving(bus, walk, rounds(missed="skip", grace_s=60)) as node:
        await walk.begun.get()
        await walk.end()
        standing = await stands(node)
        assert (standing.runs, standing.dropped) == (1, 0)


async def test_a_run_that_fails_is_over_and_the_schedule_says_why(bus: Bus, walk: Walk, clock: Clock) -> None:
    walk.trouble = Refused("no rounds in the rain")
    async with serving(bus, walk, rounds()) as node:
        await walk.begun.get()
        await walk.end()
        assert (await stands(node)).trouble == "no rounds in the rain"
        walk.trouble = None
        await walk.end()
        assert (await stands(node)).trouble == ""


async def test_a_schedule_goes_on_in_another_process_in_the_middle_of_a_run(
    open_another: OpenBus, walk: Walk, clock: Clock
) -> None:
    async with serving(await open_another(), walk, rounds(said="first")):
        assert await walk.begun.get() == "first"
    async with serving(await open_another(), walk, rounds(said="second")) as node:  # and the code has changed
        assert await walk.begun.get() == "first", "a run under way goes on as it was asked for"
        walk.may_end.release()
        assert await walk.begun.get() == "second"
        standing = await stands(node)
        assert (standing.runs, standing.trouble) == (1, "")
        assert await node.ref(Watchman, "bob").ask(Rounds()) == ["first"]


async def test_a_changed_expression_is_planned_anew(open_another: OpenBus, walk: Walk) -> None:
    async with serving(await open_another(), walk, rounds("0 0 1 1 *")) as node:
        before = await stands_when(node, lambda standing: standing.plan is not None)
    async with serving(await open_another(), walk, rounds("0 0 2 1 *")) as node:
        after = await stands_when(node, lambda standing: standing.plan != before.plan)
        assert after.agenda.due_ms - before.agenda.due_ms in (86_400_000, 86_400_000 * 366, -86_400_000 * 364)


async def test_a_schedule_that_the_code_has_no_more_ends_when_a_node_starts(open_another: OpenBus, walk: Walk) -> None:
    async with serving(await open_another(), walk, rounds("0 0 1 1 *")) as node:
        await stands_when(node, lambda standing: standing.plan is not None)
    async with serving(await open_another(), walk) as node:
        standing = await stands_when(node, lambda standing: standing.plan is None)
        assert standing.agenda.timer_ms(0) == 0


async def test_a_due_time_that_is_not_the_next_one_runs_nothing(bus: Bus, walk: Walk) -> None:
    async with serving(bus, walk, rounds("0 0 1 1 *")) as node:
        before = await stands_when(node, lambda standing: standing.plan is not None)
        await node.ref(Scheduler, NAME).ask(Due(due_ms=1))
        assert await stands(node) == before
        assert walk.begun.empty()


async def test_a_node_that_cannot_reach_the_logs_at_first_tells_its_schedules_later(
    bus: Bus, walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses, refused = bus.log.addresses, [Unreachable("nats://127.0.0.1:1")]

    async def fails_once(kind: str | None = None) -> list[Address]:
        if refused:
            raise refused.pop()
        return await addresses(kind)

    monkeypatch.setattr(bus.log, "addresses", fails_once)
    monkeypatch.setattr(scheduler, "RETRY_PAUSE_S", 0.0)
    async with serving(bus, walk, rounds("0 0 1 1 *")) as node:
        await stands_when(node, lambda standing: standing.plan is not None)
        assert not refused


async def test_several_nodes_and_several_starts_make_one_schedule(
    open_another: OpenBus, walk: Walk, clock: Clock
) -> None:
    async with serving(await open_another(), walk, rounds()):
        await walk.begun.get()
        async with serving(await open_another(), walk, rounds()) as node:
            await walk.begun.get()  # the same run: its handler begins again where the actor is now
            walk.may_end.release()
            await walk.begun.get()
            assert (await stands(node)).runs == 1
            assert await walked(node) == 1


async def test_every_second_on_a_server_that_is_killed(tmp_path: Path, app_name: str, walk: Walk) -> None:
    server = EmbeddedServer(tmp_path / "store", durability="process")
    await server.__aenter__()
    try:
        client = await connect(ServerAddress(url=server.url), name="test")
        every = rounds("* * * * * *")
        walk.may_end = asyncio.Semaphore(1_000)
        async with open_bus(client, app_name, create=True) as bus, serving(bus, walk, every) as node:
            server.settle()
            await walk.begun.get()
            os.kill(server.pid, signal.SIGKILL)
            await server.wait_exited()
            await server.__aexit__(None, None, None)
            await server.__aenter__()
            before = (await stands(node)).runs
            standing = await stands_when(node, lambda standing: standing.runs >= before + 2)
            assert standing.trouble == ""
            count = await walked(node)
            assert count >= standing.runs, "each was over before the schedule counted it"
            assert count <= (await stands(node)).runs + 1, "and none ran twice"
        await close(client)
    finally:
        await server.__aexit__(None, None, None)


class Stranger(Actor):
    pass


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (lambda: rounds("0 2 * *"), "'0 2 \\* \\*' is no cron expression .*write minute hour day"),
        (lambda: rounds("61 * * * *"), "no cron expression .Bad minute"),
        (lambda: rounds("0 0 31 2,4 1#6"), "no cron expression"),
        (lambda: rounds("0 0 30 2 *"), "no cron expression|never due"),
        (lambda: rounds(tz="Europe/Atlantis"), "no time zone 'Europe/Atlantis'"),
        (lambda: rounds(tz="../etc/passwd"), "no time zone"),
        (lambda: rounds(tz="Europe"), "no time zone"),
        (lambda: rounds(tz=""), "no time zone"),
        (lambda: rounds(overlap="maybe"), "overlap is one of skip, queue, allow, not 'maybe'"),
        (lambda: rounds(missed="twice"), "missed is one of once, skip, all, not 'twice'"),
        (lambda: rounds(grace_s=-1), "grace_s is 0 or more"),
        (lambda: rounds(run_timeout_s=0), "run_timeout_s more than 0"),
        (lambda: Schedule("0 2 * * *", to=Stranger, key="x", send=Round()), "does not have: add it to its actors"),
        (lambda: Schedule("0 2 * * *", to=Watchman, key="x", send=Rounds()), "no @command for: Rounds"),
        (lambda: Schedule("0 2 * * *", to=Watchman, key="", send=Round()), "needs a key"),
        (lambda: Schedule("0 2 * * *", to=cast(Any, Round), key="x", send=Round()), "no actor class"),
        (lambda: "0 2 * * *", "takes a list of Schedule"),
    ],
)
async def test_a_schedule_that_could_not_work_is_refused_when_the_system_is_made(
    schedule: Callable[[], Any], says: str
) -> None:
    with pytest.raises(DefinitionError, match=says):
        System("night", actors=[Watchman], schedules=[schedule()])


async def test_two_schedules_have_two_names() -> None:
    twice = [Schedule(cron, to=Watchman, key="bob", send=Round()) for cron in ("0 2 * * *", "0 3 * * *")]
    with pytest.raises(DefinitionError, match=r"the name 'watchman\.bob\.Round'; give one of them"):
        System("night", actors=[Watchman], schedules=twice)


async def test_without_the_cron_parser_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    System("night", actors=[Watchman])
    monkeypatch.setitem(sys.modules, "cronsim", None)
    System("night", actors=[Watchman])
    with pytest.raises(DefinitionError, match=r"pip install 'regrow\[schedules\]'"):
        System("night", actors=[Watchman], schedules=[rounds()])


async def test_the_kind_of_schedules_is_reserved() -> None:
    class Mine(Actor, kind=RESERVED):
        pass

    with pytest.raises(DefinitionError, match="the kind 'rg_schedule' is the runtime's own; give Mine another one"):
        System("night", actors=[Mine])


async def test_a_checked_system_has_the_same_schedules() -> None:
    system = System("night", actors=[Watchman], schedules=[rounds()])
    assert system.checked().plans == system.plans
