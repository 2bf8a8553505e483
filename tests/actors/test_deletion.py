"""Deleting actors, one, many, or those that are idle; on both buses."""

import asyncio
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from regrow.actors import Actor, Client, Event, Kind, Message, Node, Policy, System, command, event, query, tool
from regrow.actors.administration import Administration, DeletionWaits, NoActor
from regrow.actors.dead_letter import bury
from regrow.actors.errors import failure
from regrow.actors.overview import OpenTurn, Overview, overview_of
from regrow.actors.records import Letter
from regrow.actors.retention import is_over
from regrow.bus import Address, Bus

DAY_S = 24 * 3600.0
GATE = "gate"


class Add(Message[int]):
    amount: int


class Remind(Message[int]):
    after_s: float


class Hold(Message[int]):
    pass


class Total(Message[int]):
    pass


class Added(Event):
    amount: int


@tool
async def double(number: int) -> int:
    return 2 * number


class Counter(Actor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(amount=msg.amount))
        return self.total

    @command
    async def remind(self, msg: Remind) -> int:
        self.set_timer("soon", Add(amount=1_000), after_s=msg.after_s)
        return self.total

    @command
    async def hold(self, msg: Hold) -> int:
        self.emit(Added(amount=await double(3)))
        await self.port(GATE).wait()
        return self.total

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


class Diary(Counter):
    pass


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def hosted(bus: Bus, app_name: str, gate: asyncio.Event) -> AbstractAsyncContextManager[Node]:
    kinds: list[type[Actor] | Kind] = [Counter, Kind(actor=Diary, policy=Policy(history="keep", snapshot_every=2))]
    return System(app_name, kinds, ports={GATE: gate}).checked().host(bus)


async def fill(bus: Bus, *keys: str) -> None:
    for key in keys:
        assert await Client(bus).ref(Counter, key).ask(Add(amount=5)) == 5


async def bury_one(bus: Bus, key: str) -> None:
    await bury(bus, Address("counter", key), Letter("in", 1, key, msgspec.Raw(b"1")), failure("defect", "broken"))


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [Counter, Diary])
async def test_a_deleted_actor_begins_anew(
    bus: Bus, hosted: AbstractAsyncContextManager[Node], kind: type[Counter]
) -> None:
    administration, name = Administration(bus), kind.__regrow__.kind
    async with hosted as node:
        for _ in range(5):
            await node.ref(kind, "a").ask(Add(amount=5))
        await node.ref(kind, "a").ask(Remind(after_s=DAY_S))
        assert list((await administration.show(name, "a")).timers) == ["soon"]
        await bury(bus, Address(name, "a"), Letter("in", 1, "x", msgspec.Raw(b"1")), failure("defect", "broken"))
        assert await administration.delete(name, "a") == 1
        gone = await administration.show(name, "a")
        assert (gone.deleted, gone.timers, gone.opened, gone.records) == (True, {}, None, 1)
        assert await administration.dead_letters.list() == ()
        assert await administration.delete(name, "a") == 0
        assert await administration.show(name, "a") == gone, "it was deleted already"
        assert await node.ref(kind, "a").ask(Add(amount=1)) == 1
        assert not (await administration.show(name, "a")).deleted


@pytest.mark.asyncio
async def test_an_order_waits_in_the_mailbox_until_a_node_serves_it(
    bus: Bus, hosted: AbstractAsyncContextManager[Node], app_name: str
) -> None:
    administration = Administration(bus)
    async with System(app_name, [Counter]).host(bus):
        await fill(bus, "a", "b")
    await administration.delete("counter", "a", wait_s=0)
    with pytest.raises(DeletionWaits, match=r"the order to delete counter/b lies in its mailbox.*0\.01 s"):
        await administration.delete("counter", "b", wait_s=0.01)
    assert not (await administration.show("counter", "a")).deleted
    async with hosted:
        for key in ("a", "b"):
            while not (await administration.show("counter", key)).deleted:
                pass


@pytest.mark.asyncio
async def test_a_deletion_waits_for_the_turn_that_runs(
    bus: Bus, hosted: AbstractAsyncContextManager[Node], gate: asyncio.Event
) -> None:
    administration = Administration(bus)
    async with hosted as node, asyncio.TaskGroup() as tasks:
        held = tasks.create_task(Client(bus).ref(Counter, "a").ask(Hold()))
        while not await administration.actors():
            pass
        while (opened := (await administration.show("counter", "a")).opened) is None or not opened.steps:
            pass
        assert (opened.box, opened.attempts, opened.asks) == ("in", 0, ())
        with pytest.raises(DeletionWaits):
            await administration.delete("counter", "a", wait_s=0.01)
        gate.set()
        assert await held == 6
        assert await administration.delete("counter", "a") == 0
        assert await node.ref(Counter, "a").ask(Total()) == 0


@pytest.mark.asyncio
async def test_who_was_never_there_is_not_deleted(bus: Bus) -> None:
    with pytest.raises(NoActor, match="there is no actor counter/nobody"):
        await Administration(bus).delete("counter", "nobody")
    assert await Administration(bus).actors() == []


@pytest.mark.asyncio
async def test_a_purge_deletes_all_whose_keys_begin_so_and_their_dead_letters(
    bus: Bus, hosted: AbstractAsyncContextManager[Node]
) -> None:
    administration = Administration(bus)
    async with hosted as node:
        await fill(bus, "u7.a", "u7.b", "u77.a")
        await node.ref(Diary, "u7.c").ask(Add(amount=1))
        await bury_one(bus, "u7.a")
        await bury_one(bus, "u77.a")
        assert [str(each) for each in await administration.actors(prefix="u7.")] == [
            "counter/u7.a",
            "counter/u7.b",
            "diary/u7.c",
        ]
        purged = await administration.purge("u7.", "counter")
        assert (purged.deleted, purged.waiting, purged.dead_letters) == (2, (), 1)
        purged = await administration.purge("u7.")
        assert (purged.deleted, purged.dead_letters) == (3, 0)
        assert not (await administration.show("counter", "u77.a")).deleted
        assert len(await administration.dead_letters.list()) == 1
    await fill_order(bus, administration)
    with pytest.raises(ValueError, match="all keys begin with the empty one"):
        await administration.purge("")


async def fill_order(bus: Bus, administration: Administration) -> None:
    """Without a node the purge says whose orders wait."""
    purged = await administration.purge("u77.", wait_s=0.01)
    assert (purged.deleted, purged.waiting, purged.dead_letters) == (0, (Address("counter", "u77.a"),), 1)


@pytest.mark.asyncio
async def test_a_sweep_deletes_those_that_are_idle_and_wait_for_nothing(
    bus: Bus, hosted: AbstractAsyncContextManager[Node]
) -> None:
    administration = Administration(bus)
    async with hosted as node:
        await fill(bus, "a", "b", "c")
        await node.ref(Counter, "b").ask(Remind(after_s=DAY_S))
        assert await administration.idle("counter", DAY_S) == []
        assert [each.key for each in await administration.idle("counter", 0)] == ["a", "c"]
        assert [each.key for each in await administration.idle("counter", 0, "c")] == ["c"]
        purged = await administration.sweep("counter", 0)
        assert (purged.deleted, purged.waiting) == (2, ())
        assert await administration.idle("counter", 0) == []
        assert await node.ref(Counter, "b").ask(Total()) == 5


QUIET = Overview("counter", "a", False, 1, 1, 1_000_000_000, 1, 0, {}, False, None)
WAITING = OpenTurn("x", "in", "", "", 0, (), 0, 1)


def test_whose_time_is_over_is_told_by_the_last_record() -> None:
    assert is_over(QUIET, 1, 2_000_000_001)
    assert not is_over(QUIET, 1, 2_000_000_000)
    for busy in (
        msgspec.structs.replace(QUIET, deleted=True),
        msgspec.structs.replace(QUIET, timers={"t": 1}),
        msgspec.structs.replace(QUIET, opened=WAITING),
    ):
        assert not is_over(busy, 1, 9_000_000_000)
    assert is_over(msgspec.structs.replace(QUIET, outbox=True), 1, 9_000_000_000), "that is out long since"
    with pytest.raises(ValueError, match="cannot have been idle for -1 seconds"):
        is_over(QUIET, -1, 9_000_000_000)


def test_an_empty_log_is_nobody() -> None:
    assert overview_of(Address("counter", "a"), []) is None
