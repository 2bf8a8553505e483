# Some classes here are only declared.
# pyright: reportUnusedClass=false, reportUnusedFunction=false
"""Projections: every event of a kind, in order, from a position that survives restarts, in memory and on a real server."""

import asyncio
import importlib.util
import os
import random
import signal
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from regrow.actors import (
    Actor,
    ActorError,
    DefinitionError,
    Event,
    Kind,
    Message,
    Policy,
    Refused,
    System,
    command,
    event,
    tool,
    upcast,
)
from regrow.actors.happening import Recorded, happenings
from regrow.actors.projecting import BATCH_RECORDS_MAX, Positions, furthest
from regrow.actors.projection import HistoryIncomplete, Projection
from regrow.actors.read_ahead import AHEAD_RECORDS_MAX, ReadAhead
from regrow.actors.records import VERSION, Record, Snapshot
from regrow.bus import (
    Address,
    Bus,
    EmbeddedServer,
    Followed,
    MemoryBus,
    Stored,
    Undecodable,
    decode,
    encode,
    headers,
    open_bus,
)
from regrow.bus.connection import ServerAddress, close, connect
from regrow.supervisor import Backoff

OpenBus = Callable[[], Awaitable[Bus]]
Log = list[MutableMapping[str, Any]]
Fields = dict[str, Any]

AT_ONCE = Backoff(first_s=0.0)
APP = Path(__file__).parent / "apps" / "totals.py"


class Spend(Message[int]):
    cents: int


class Pocket(Message[None]):
    cents: int


class Overspend(Message[None]):
    pass


class Spent(Event, tag="Spent.v2"):
    cents: int


@upcast(Spent, "Spent")
def in_cents(old: Fields) -> Fields:
    return {"cents": old["euros"] * 100}


class Pocketed(Event):
    cents: int


class Purse(Actor):
    cents: int = 0

    @command
    async def spend(self, msg: Spend) -> int:
        self.emit(Spent(cents=msg.cents))
        return self.cents

    @command
    async def pocket(self, msg: Pocket) -> None:
        self.emit(Pocketed(cents=msg.cents))

    @command
    async def overspend(self, msg: Overspend) -> None:
        self.emit(Spent(cents=1_000_000))
        raise Refused("no")

    @event
    def spent(self, fact: Spent) -> None:
        self.cents -= fact.cents

    @event
    def pocketed(self, fact: Pocketed) -> None:
        self.cents += fact.cents


class OldSpend(Message[None]):
    euros: int


class OldSpent(Event, tag="Spent"):
    euros: int


class OldPurse(Actor, kind="purse"):
    @command
    async def spend(self, msg: OldSpend) -> None:
        self.emit(OldSpent(euros=msg.euros))

    @event
    def spent(self, fact: OldSpent) -> None: ...


class Seen:
    """What projections were told, for whoever waits for it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.at: list[Recorded] = []
        self.changed = asyncio.Event()

    def tell(self, at: Recorded, what: int) -> None:
        self.told.append((at.key, what))
        self.at.append(at)
        self.changed.set()

    async def wait(self, count: int) -> list[tuple[str, int]]:
        """All that was told, once it is so much."""
        while len(self.told) < count:
            self.changed.clear()
            await self.changed.wait()
        return self.told

    def of(self, key: str) -> list[int]:
        return [what for told, what in self.told if told == key]


DELETED = -1


class Totals(Projection, of=Purse, backoff=AT_ONCE):
    """Notes what is spent; the position lies in NATS."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.saves: list[dict[int, int]] = []
        self.saved = asyncio.Event()

    @event
    async def spent(self, fact: Spent, at: Recorded) -> None:
        self.seen.tell(at, fact.cents)

    async def save(self, positions: Positions) -> None:
        await super().save(positions)
        self.saves.append(dict(positions))
        self.saved.set()

    async def deleted(self, at: Recorded) -> None:
        self.seen.tell(at, DELETED)


class InSqlite(Projection):
    """A base: the position lies in a table, and a batch is a transaction."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.execute("CREATE TABLE position (stream INTEGER PRIMARY KEY, sequence INTEGER)")
        self.db.execute("CREATE TABLE counted (key TEXT, cents INTEGER)")
        self.committed = asyncio.Event()

    @asynccontextmanager
    async def batch(self) -> AsyncGenerator[None]:
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            yield
        self.committed.set()

    async def load(self) -> Positions:
        return dict(self.db.execute("SELECT stream, sequence FROM position"))

    async def save(self, positions: Positions) -> None:
        self.db.executemany("INSERT OR REPLACE INTO position VALUES (?, ?)", positions.items())

    async def forget(self) -> None:
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            self.db.execute("DELETE FROM position")
            self.db.execute("DELETE FROM counted")

    def counted(self) -> list[tuple[str, int]]:
        return list(self.db.execute("SELECT key, cents FROM counted ORDER BY rowid"))

    async def wait(self, count: int) -> list[tuple[str, int]]:
        """All that was counted, once it is so much and committed."""
        while len(found := self.counted()) < count or self.db.in_transaction:
            self.committed.clear()
            await self.committed.wait()
        return found


class Counting(InSqlite, of=Purse, backoff=AT_ONCE):
    """Counts in SQLite; ``failures`` are raised first, by the amount that brings them about."""

    def __init__(self, failures: dict[int, int] | None = None) -> None:
        super().__init__()
        self.failures = dict(failures or {})
        self.attempts: list[int] = []

    @event
    async def spent(self, fact: Spent, at: Recorded) -> None:
        self.attempts.append(fact.cents)
        self.db.execute("INSERT INTO counted VALUES (?, ?)", (at.key, fact.cents))
        if self.failures.get(fact.cents, 0):
            self.failures[fact.cents] -= 1
            raise OSError(f"no room for {fact.cents}")


KEEP = Policy(history="keep")


def shop(name: str, *projections: Projection, policy: Policy = KEEP, actor: type[Actor] = Purse) -> System:
    return System(name, actors=[Kind(actor=actor, policy=policy)], children=projections)


async def spend(bus: Bus, name: str, *spent: tuple[str, int]) -> None:
    """Records these events with no projection near."""
    async with shop(name).host(bus) as node:
        for key, cents in spent:
            await node.ref(Purse, key).ask(Spend(cents=cents))


# In order, from the position on, and live


@pytest.mark.asyncio
async def test_events_from_before_and_those_to_come_arrive_in_the_order_of_each_actor(bus: Bus, app_name: str) -> None:
    keys = [f"p{number}" for number in range(12)]
    await spend(bus, app_name, *((key, cents) for cents in range(1, 6) for key in keys))
    seen = Seen()
    async with shop(app_name, Totals(seen)).host(bus) as node:
        await seen.wait(60)
        for cents in range(6, 9):
            await asyncio.gather(*(node.ref(Purse, key).ask(Spend(cents=cents)) for key in keys))
        await seen.wait(96)
    for key in keys:
        assert seen.of(key) == list(range(1, 9))
    assert len(seen.told) == 96
    for stream in {at.stream for at in seen.at}:
        places = [at.place for at in seen.at if at.stream == stream]
        assert places == sorted(set(places))


@pytest.mark.asyncio
async def test_a_projection_that_is_hosted_again_goes_on_where_it_was(open_another: OpenBus, app_name: str) -> None:
    seen = Seen()
    async with shop(app_name, Totals(seen)).host(await open_another()) as node:
        await node.ref(Purse, "a").ask(Spend(cents=1))
        await seen.wait(1)
    await spend(await open_another(), app_name, ("a", 2), ("b", 3))
    async with shop(app_name, Totals(seen)).host(await open_another()) as node:
        await seen.wait(3)
        await node.ref(Purse, "a").ask(Spend(cents=4))
        await seen.wait(4)
    assert seen.of("a") == [1, 2, 4]
    assert seen.of("b") == [3]


@pytest.mark.asyncio
async def test_two_projections_of_one_kind_have_positions_of_their_own(bus: Bus, app_name: str) -> None:
    class Others(Projection, of=Purse):
        def __init__(self, seen: Seen) -> None:
            self.seen = seen

        @event
        async def pocketed(self, fact: Pocketed, at: Recorded) -> None:
            self.seen.tell(at, fact.cents)

    spent, pocketed = Seen(), Seen()
    async with shop(app_name, Totals(spent), Others(pocketed)).host(bus) as node:
        await node.ref(Purse, "a").ask(Pocket(cents=5))
        await node.ref(Purse, "a").ask(Spend(cents=2))
        assert await spent.wait(1) == [("a", 2)]
        assert await pocketed.wait(1) == [("a", 5)]


@pytest.mark.asyncio
async def test_what_a_turn_did_not_commit_is_not_seen(bus: Bus, app_name: str) -> None:
    seen = Seen()
    async with shop(app_name, Totals(seen)).host(bus) as node:
        with pytest.raises(Refused):
            await node.ref(Purse, "a").ask(Overspend())
        await node.ref(Purse, "a").ask(Spend(cents=3))
        assert await seen.wait(1) == [("a", 3)]


@pytest.mark.asyncio
async def test_a_handler_is_told_where_and_when_the_event_was_recorded(bus: Bus, app_name: str) -> None:
    await spend(bus, app_name, ("Anna B.", 3))
    (stored,) = await bus.log.read(Address("purse", "Anna B."))
    seen = Seen()
    async with shop(app_name, Totals(seen)).host(bus):
        await seen.wait(1)
    (at,) = seen.at
    assert (at.kind, at.key, at.sequence, at.index, at.time_ns) == (
        "purse",
        "Anna B.",
        stored.sequence,
        0,
        stored.time_ns,
    )
    assert at.id == f"{at.stream}-{at.sequence}-0"
    assert abs(at.time - datetime.fromtimestamp(stored.time_ns / 1e9, UTC)) < timedelta(milliseconds=1)
    assert "purse/Anna B. at sequence" in str(at)


@pytest.mark.asyncio
async def test_snapshots_beside_the_log_change_nothing(bus: Bus, app_name: str) -> None:
    policy = Policy(history="keep", snapshot_every=2)
    seen = Seen()
    async with shop(app_name, policy=policy).host(bus) as node:
        for cents in range(7):
            await node.ref(Purse, "a").ask(Spend(cents=cents))
    async with shop(app_name, Totals(seen), policy=policy).host(bus):
        await seen.wait(7)
    assert seen.of("a") == list(range(7))


@pytest.mark.asyncio
async def test_an_event_of_an_older_form_is_seen_in_the_form_of_today(open_another: OpenBus, app_name: str) -> None:
    async with shop(app_name, actor=OldPurse).host(await open_another()) as node:
        await node.ref(OldPurse, "a").ask(OldSpend(euros=2))
    seen = Seen()
    async with shop(app_name, Totals(seen)).host(await open_another()):
        assert await seen.wait(1) == [("a", 200)]


# Deletion


@pytest.mark.asyncio
async def test_a_deletion_is_seen_in_its_place_and_the_actor_may_begin_anew(bus: Bus, app_name: str) -> None:
    seen = Seen()
    async with shop(app_name, Totals(seen)).host(bus) as node:
        await node.ref(Purse, "a").ask(Spend(cents=1))
        await seen.wait(1)
        await bus.mail.post("act", Address("purse", "a"), b"null", {headers.ID: "gone", headers.TYPE: "delete"})
        await seen.wait(2)
        await node.ref(Purse, "a").ask(Spend(cents=2))
        assert await seen.wait(3) == [("a", 1), ("a", DELETED), ("a", 2)]


# The position


@pytest.mark.asyncio
async def test_what_was_read_at_once_is_one_batch_and_saved_once(app_name: str) -> None:
    bus = MemoryBus(app_name)
    await spend(bus, app_name, *(("a", cents) for cents in range(50)))
    totals = Totals(Seen())
    async with shop(app_name, totals).host(bus):
        await totals.seen.wait(50)
        await totals.saved.wait()
    (saved,) = totals.saves
    assert list(saved.values()) == [(await bus.log.read(Address("purse", "a")))[-1].sequence]


class Ponder(Message[int]):
    pass


@tool
async def ponder() -> int:
    return 42


class Thinker(Actor):
    @command
    async def ponder(self, msg: Ponder) -> int:
        return await ponder()


class Idle(Projection, of=Thinker):
    """Hears of nothing, for nothing happens."""

    def __init__(self) -> None:
        self.saves: list[dict[int, int]] = []
        self.saved = asyncio.Event()

    async def save(self, positions: Positions) -> None:
        await super().save(positions)
        self.saves.append(dict(positions))
        self.saved.set()


@pytest.mark.asyncio
async def test_records_without_events_are_passed_and_the_position_saved_when_it_stops(app_name: str) -> None:
    bus, idle = MemoryBus(app_name), Idle()
    async with System(app_name, actors=[Kind(actor=Thinker, policy=KEEP)], children=[idle]).host(bus) as node:
        assert await node.ref(Thinker, "a").ask(Ponder()) == 42
        records = await bus.log.read(Address("thinker", "a"))
        while cast(Any, idle)._runner._unsaved < len(records):  # noqa: ASYNC110 - nothing tells of what tells nothing
            await asyncio.sleep(0)
        assert not idle.saves
    (saved,) = idle.saves
    assert list(saved.values()) == [records[-1].sequence]


@pytest.mark.asyncio
async def test_many_records_without_events_move_the_position_too(app_name: str) -> None:
    bus, idle, last = MemoryBus(app_name), Idle(), 0
    for number in range(BATCH_RECORDS_MAX + 10):
        record = encode(Record(VERSION, f"{number}", ()))
        last = await bus.log.append(Address("thinker", "a"), record, rid=f"{number}", after=last)
    async with System(app_name, actors=[Kind(actor=Thinker, policy=KEEP)], children=[idle]).host(bus):
        await idle.saved.wait()
    assert [value for saved in idle.saves for value in saved.values()][-1] == last


@pytest.mark.asyncio
async def test_a_reset_projection_sees_everything_once_more(bus: Bus, app_name: str) -> None:
    await spend(bus, app_name, ("a", 1), ("a", 2))
    totals = Totals(Seen())
    async with shop(app_name, totals).host(bus) as node:
        await totals.seen.wait(2)
        await totals.reset()
        await totals.seen.wait(4)
        await node.ref(Purse, "a").ask(Spend(cents=3))
        await totals.seen.wait(5)
    assert totals.seen.of("a") == [1, 2, 1, 2, 3]


@pytest.mark.asyncio
async def test_a_reset_projection_with_a_store_of_its_own_comes_to_the_same(bus: Bus, app_name: str) -> None:
    await spend(bus, app_name, ("a", 1), ("a", 2))
    counting = Counting()
    async with shop(app_name, counting).host(bus):
        await counting.wait(2)
        await counting.reset()
        assert await counting.wait(2) == [("a", 1), ("a", 2)]


@pytest.mark.asyncio
async def test_a_handler_cannot_reset_its_own_projection(bus: Bus, app_name: str, logged: Log) -> None:
    class Circular(InSqlite, of=Purse, on_failure="skip", attempts_max=1, backoff=AT_ONCE):
        @event
        async def spent(self, fact: Spent, at: Recorded) -> None:
            await self.reset()

        async def skipped(self, at: Recorded, error: str) -> None:
            self.db.execute("INSERT INTO counted VALUES (?, ?)", (error, 0))

    await spend(bus, app_name, ("a", 1))
    circular = Circular()
    async with shop(app_name, circular).host(bus):
        ((error, _),) = await circular.wait(1)
    assert "cannot be reset by one of its own handlers" in error


@pytest.mark.asyncio
async def test_a_projection_that_is_not_hosted_cannot_be_reset() -> None:
    with pytest.raises(ActorError, match="the projection totals works only in a system that is hosted"):
        await Totals(Seen()).reset()


@pytest.mark.asyncio
async def test_what_another_process_has_handled_is_not_handled_again(bus: Bus, app_name: str) -> None:
    counting = Counting()
    async with shop(app_name, counting).host(bus) as node:
        await node.ref(Purse, "a").ask(Spend(cents=1))
        await counting.wait(1)
        ((stream, sequence),) = (await counting.load()).items()
        counting.db.execute("UPDATE position SET sequence = ?", (sequence + 1,))  # as if it had taken the next one
        await node.ref(Purse, "a").ask(Spend(cents=2))
        await node.ref(Purse, "a").ask(Spend(cents=3))
        assert await counting.wait(2) == [("a", 1), ("a", 3)]
        assert list(await counting.load()) == [stream]


@pytest.mark.asyncio
async def test_a_position_that_somebody_set_back_is_taken_for_the_truth(bus: Bus, app_name: str, logged: Log) -> None:
    counting = Counting()
    async with shop(app_name, counting).host(bus) as node:
        await node.ref(Purse, "a").ask(Spend(cents=1))
        await counting.wait(1)
        await counting.forget()
        await node.ref(Purse, "a").ask(Spend(cents=2))
        assert await counting.wait(2) == [("a", 1), ("a", 2)]
    assert any("was set back under it" in str(entry.get("error")) for entry in logged)


# Failures


@pytest.mark.asyncio
async def test_an_event_whose_handler_raised_is_tried_again_and_counts_once(
    bus: Bus, app_name: str, logged: Log
) -> None:
    await spend(bus, app_name, *(("a", cents) for cents in range(1, 8)))
    counting = Counting({5: 7})
    async with shop(app_name, counting).host(bus) as node:
        assert await counting.wait(7) == [("a", cents) for cents in range(1, 8)]
        await node.ref(Purse, "a").ask(Spend(cents=9))
        await counting.wait(8)
    assert counting.attempts.count(5) == 8
    errors = [str(entry["error"]) for entry in logged if entry["event"].startswith("projection failed")]
    assert len(errors) == 7, "more often than a system may be restarted"
    assert "the projection counting failed on purse/a at sequence" in errors[0]
    assert "at attempt 7: OSError: no room for 5" in errors[-1]


@pytest.mark.asyncio
async def test_events_before_one_that_fails_again_and_again_are_handled_twice_at_most(bus: Bus, app_name: str) -> None:
    """Without a transaction each attempt would repeat them; so after the first failure every record is a batch."""

    class Stumbling(Projection, of=Purse, backoff=AT_ONCE):
        def __init__(self) -> None:
            self.seen = Seen()
            self.left = 6

        @event
        async def spent(self, fact: Spent, at: Recorded) -> None:
            if fact.cents == 4 and self.left:
                self.left -= 1
                raise OSError("no")
            self.seen.tell(at, fact.cents)

    await spend(bus, app_name, *(("a", cents) for cents in range(1, 6)))
    stumbling = Stumbling()
    async with shop(app_name, stumbling).host(bus):
        while 5 not in stumbling.seen.of("a"):
            stumbling.seen.changed.clear()
            await stumbling.seen.changed.wait()
    assert max(map(stumbling.seen.of("a").count, range(1, 6))) <= 2
    assert sorted(set(stumbling.seen.of("a"))) == [1, 2, 3, 4, 5]


@pytest.mark.asyncio
async def test_a_poisonous_event_is_passed_over_where_that_was_said(bus: Bus, app_name: str, logged: Log) -> None:
    class Skipping(InSqlite, of=Purse, on_failure="skip", attempts_max=3, backoff=AT_ONCE):
        attempts = 0

        @event
        async def spent(self, fact: Spent, at: Recorded) -> None:
            self.db.execute("INSERT INTO counted VALUES (?, ?)", (at.key, fact.cents))
            if fact.cents == 2:
                self.attempts += 1
                raise OSError("no room")

    await spend(bus, app_name, ("a", 1), ("a", 2), ("a", 3))
    skipping = Skipping()
    async with shop(app_name, skipping).host(bus):
        assert await skipping.wait(2) == [("a", 1), ("a", 3)]
    assert skipping.attempts == 3
    (skipped,) = [entry for entry in logged if entry["event"] == "projection skips an event"]
    assert skipped["error"] == "OSError: no room"
    assert "purse/a" in skipped["at"]


@pytest.mark.asyncio
async def test_an_event_that_cannot_be_decoded_stops_the_projection_and_no_actor(
    bus: Bus, app_name: str, logged: Log
) -> None:
    class Purged(Projection, of=Purse, on_failure="skip", attempts_max=2, backoff=AT_ONCE):
        def __init__(self) -> None:
            self.seen = Seen()
            self.errors: list[str] = []

        @event
        async def spent(self, fact: Spent, at: Recorded) -> None:
            self.seen.tell(at, fact.cents)

        async def skipped(self, at: Recorded, error: str) -> None:
            self.errors.append(error)
            self.seen.changed.set()

    await bus.log.append(Address("purse", "x"), b'{"rid":"1"}', rid="1", after=0)
    strange = b'{"v":1,"rid":"2","entries":[{"type":"Turn","cause":{"box":"in","id":"1"},"in_seq":1,"act_seq":0,"reply":{},"events":[{"type":"Unheard"}]}]}'
    await bus.log.append(Address("purse", "y"), strange, rid="2", after=0)
    await bus.log.append(Address("purse", "z"), b'{"v":9,"rid":"3","entries":[]}', rid="3", after=0)
    purged = Purged()
    async with shop(app_name, purged).host(bus) as node:
        await node.ref(Purse, "a").ask(Spend(cents=1))
        await purged.seen.wait(1)
        assert await node.ref(Purse, "a").ask(Spend(cents=1)) == -2
        await purged.seen.wait(2)
        while len(set(purged.errors)) < 3:
            purged.seen.changed.clear()
            await purged.seen.changed.wait()
    said = "\n".join(sorted(set(purged.errors)))
    assert "record of purse/x cannot be decoded" in said
    assert "neither an @event method for 'Unheard'" in said
    assert "this build reads version 1, not 9" in said


@pytest.mark.asyncio
async def test_a_log_that_was_rolled_up_before_is_loudly_no_whole_history(bus: Bus, app_name: str, logged: Log) -> None:
    async with shop(app_name, policy=Policy(snapshot_every=2)).host(bus) as node:
        for cents in (1, 2, 3):
            await node.ref(Purse, "a").ask(Spend(cents=cents))
    (first, *_) = decode((await bus.log.read(Address("purse", "a")))[0].data, Record).entries
    assert isinstance(first, Snapshot)

    told = asyncio.Event()

    class Whole(Projection, of=Purse):
        async def rolled_up(self, actor: Any, at: Recorded) -> None:
            told.set()
            await super().rolled_up(actor, at)

    async with shop(app_name, Whole()).host(bus) as node:
        await told.wait()
        await node.ref(Purse, "a").ask(Spend(cents=4))
    with pytest.raises(
        HistoryIncomplete, match="the log of purse/a begins with a snapshot: the events before it are gone"
    ):
        await Totals(Seen()).rolled_up(None, Recorded("purse", "a", 0, 1, 0, 0))


@pytest.mark.asyncio
async def test_a_projection_may_begin_with_the_state_that_is_left_of_a_history(bus: Bus, app_name: str) -> None:
    class Seeded(Projection, of=Purse, name="seeded"):
        def __init__(self) -> None:
            self.seen = Seen()

        async def rolled_up(self, actor: Purse, at: Recorded) -> None:
            self.seen.tell(at, actor.cents)

        @event
        async def spent(self, fact: Spent, at: Recorded) -> None:
            self.seen.tell(at, fact.cents)

    async with shop(app_name, policy=Policy(snapshot_every=2)).host(bus) as node:
        for cents in (1, 2):
            await node.ref(Purse, "a").ask(Spend(cents=cents))
        while len(await bus.log.read(Address("purse", "a"))) > 1:  # noqa: ASYNC110 - the snapshot comes behind the answer
            await asyncio.sleep(0)
    seeded = Seeded()
    async with shop(app_name, seeded).host(bus) as node:
        await node.ref(Purse, "a").ask(Spend(cents=4))
        await seeded.seen.wait(2)
    assert seeded.seen.of("a") == [-3, 4]


@pytest.mark.asyncio
async def test_asked_to_stop_it_finishes_the_event_that_it_is_at_and_no_other(bus: Bus, app_name: str) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    class Slow(InSqlite, of=Purse):
        @event
        async def spent(self, fact: Spent, at: Recorded) -> None:
            reached.set()
            await go_on.wait()
            self.db.execute("INSERT INTO counted VALUES (?, ?)", (at.key, fact.cents))

    await spend(bus, app_name, ("a", 1), ("a", 2), ("a", 3))
    slow = Slow()
    async with AsyncExitStack() as hosted:
        await hosted.enter_async_context(shop(app_name, slow).host(bus))
        await reached.wait()
        stopping = asyncio.ensure_future(hosted.aclose())
        while not cast(Any, slow)._runner._stopping:  # noqa: ASYNC110 - nothing tells that it was asked to
            await asyncio.sleep(0)
        go_on.set()
        await stopping
    assert slow.counted() == [("a", 1)]
    async with shop(app_name, slow).host(bus):
        assert await slow.wait(3) == [("a", 1), ("a", 2), ("a", 3)]


# What may be declared


def test_the_kind_must_keep_its_history(app_name: str) -> None:
    with pytest.raises(
        DefinitionError,
        match=r'Totals needs the whole history of Purse: say Kind\(actor=Purse, policy=Policy\(history="keep"\)\)',
    ):
        asyncio.run(host(shop(app_name, Totals(Seen()), policy=Policy())))


def test_the_kind_must_be_in_the_system(app_name: str) -> None:
    with pytest.raises(DefinitionError, match="Totals is a projection of Purse, which this system does not have"):
        asyncio.run(host(shop(app_name, Totals(Seen()), actor=OldPurse)))


async def host(system: System) -> None:
    async with system.host(MemoryBus(system.name)):
        pass


def test_a_base_without_a_kind_is_no_projection_yet(app_name: str) -> None:
    with pytest.raises(DefinitionError, match=r"InSqlite must say of which actors: class X\(InSqlite, of=…\)"):
        asyncio.run(host(shop(app_name, InSqlite())))


def test_a_handler_is_async_and_takes_the_event_and_its_place() -> None:
    with pytest.raises(DefinitionError, match=r"Wrong\.spent is an @event of a projection: make it async def"):

        class Wrong(Projection, of=Purse):
            @event
            def spent(self, fact: Spent, at: Recorded) -> None: ...

    for handler in (_alone, _unsaid, _returning):
        with pytest.raises(DefinitionError, match=r"must take self, one annotated Event, and at|returns something"):
            type("Bad", (Projection,), {"spent": event(handler)}, of=Purse)


async def _alone(self: Projection, fact: Spent) -> None: ...
async def _unsaid(self: Projection, fact: Spent, at: int) -> None: ...
async def _returning(self: Projection, fact: Spent, at: Recorded) -> int:
    return 1


async def _right(self: Projection, fact: Spent, at: Recorded) -> None: ...
async def _strange(self: Projection, fact: OldSpent, at: Recorded) -> None: ...
async def _command(self: Projection, msg: Spend) -> int:
    return 1


@pytest.mark.parametrize(
    ("methods", "options", "why"),
    [
        ({"s": event(_strange)}, {}, "Bad.s takes OldSpent, for which Purse has no @event method"),
        ({"s": event(_right), "t": event(_right)}, {}, "both s and t handle Spent; keep one"),
        ({"save": event(_right)}, {}, "Bad.save has the name of a method of every projection"),
        ({"s": command(_command)}, {}, "Bad.s is a @command: a projection has only @event methods"),
        ({}, {"name": "a.b"}, "the projection's name 'a.b' may hold only letters"),
        ({}, {"on_failure": "stop"}, 'on_failure is "retry" or "skip", not \'stop\''),
        ({}, {"attempts_max": 0}, "attempts_max must be 1 or more, not 0"),
        ({}, {"of": int}, "is no actor class"),
    ],
)
def test_a_wrong_projection_is_refused_with_one_sentence(
    methods: dict[str, Any], options: dict[str, Any], why: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        type("Bad", (Projection,), methods, **{"of": Purse, **options})
    assert why in str(caught.value)


def test_what_is_whole_is_no_base_for_another() -> None:
    with pytest.raises(
        DefinitionError, match="More derives from a projection that is whole; derive it from Projection"
    ):

        class More(Totals, of=Purse):
            pass


def test_actors_that_record_fields_have_no_events_to_project() -> None:
    class Notes(Actor, persist="fields"):
        count: int = 0

    with pytest.raises(DefinitionError, match='Notes is persist="fields" and decides no events'):

        class Wrong(Projection, of=Notes):
            pass


# The parts


def test_a_record_that_decides_nothing_tells_nothing() -> None:
    assert happenings(followed(1, encode(Record(VERSION, "1", ())))) == ()
    (error,) = happenings(followed(1, b"{}"))
    assert isinstance(error, Undecodable)


def test_the_furthest_position_of_each_stream_counts() -> None:
    assert furthest({1: 5, 2: 3}, {2: 7, 4: 1}) == {1: 5, 2: 7, 4: 1}


def followed(sequence: int, data: bytes = b"{}") -> Followed:
    return Followed(0, Address("k", "a"), Stored(sequence, 0, data))


@pytest.mark.asyncio
async def test_no_more_is_read_ahead_than_may_be_held_and_all_of_it_arrives() -> None:
    read: list[int] = []

    async def records() -> AsyncGenerator[Followed]:
        for sequence in range(3 * AHEAD_RECORDS_MAX):
            read.append(sequence)
            yield followed(sequence)
            await asyncio.sleep(0)
        raise OSError("the end")

    async with ReadAhead(records()) as ahead:
        found = [each.stored.sequence for each in await ahead.take(1)]
        for _ in range(4 * AHEAD_RECORDS_MAX):
            await asyncio.sleep(0)
        assert AHEAD_RECORDS_MAX <= len(read) <= AHEAD_RECORDS_MAX + 1
        with pytest.raises(OSError, match="the end"):
            while True:
                found += [each.stored.sequence for each in await ahead.take(BATCH_RECORDS_MAX)]
        assert found == list(range(3 * AHEAD_RECORDS_MAX))


# The example


@pytest.mark.asyncio
async def test_the_example_keeps_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("totals", Path(__file__).parents[2] / "examples" / "totals.py")
    assert spec is not None
    assert spec.loader is not None
    totals = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "totals", totals)
    spec.loader.exec_module(totals)
    (child,) = totals.app.children
    saved = asyncio.Event()
    save = child.save

    async def save_and_tell(positions: Positions) -> None:
        await save(positions)
        saved.set()

    monkeypatch.setattr(child, "save", save_and_tell)
    bus = MemoryBus("totals")
    async with totals.app.host(bus) as node:
        await node.ref(totals.Purse, "anna").ask(totals.Spend(cents=300))
        await saved.wait()
    saved.clear()
    async with totals.app.host(bus) as node:
        await node.ref(totals.Purse, "anna").ask(totals.Spend(cents=20))
        await saved.wait()
    assert list(child.db.execute("SELECT * FROM total")) == [("anna", 320)]
    await bus.mail.post("act", Address("purse", "anna"), b"null", {headers.ID: "gone", headers.TYPE: "delete"})
    saved.clear()
    async with totals.app.host(bus):
        await saved.wait()
    assert list(child.db.execute("SELECT * FROM total")) == []
    child.db.close()


# Processes that are killed


KILLS = 5
KEYS = [f"l{number}" for number in range(6)]
EACH = 12


@asynccontextmanager
async def running(server: EmbeddedServer, app_name: str, database: Path) -> AsyncGenerator[Process]:
    """The application in a process of its own, ready; killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(APP), server.url, app_name, str(database), stdout=PIPE, stderr=DEVNULL
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.stdout.read()
        await process.wait()


async def said(process: Process, what: bytes, count: int = 1) -> None:
    """Waits until the process has said it so often, or all is committed."""
    assert process.stdout is not None
    while count:
        line = await process.stdout.readline()
        assert line, f"the application ended by itself with {process.returncode}"
        if line.startswith(b"committed") and int(line.split()[1]) >= TOTAL:
            return
        count -= line.startswith(what)


TOTAL = len(KEYS) * EACH
ALL = f"committed {TOTAL}\n".encode()


async def order_all(bus: Bus) -> None:
    for number in range(EACH):
        for key in KEYS:
            body = f'{{"type":"Spend","number":{number}}}'.encode()
            await bus.mail.post("in", Address("purse", key), body, {headers.ID: f"{key}.{number}"})


def counted(database: Path) -> list[tuple[str, int]]:
    connection = sqlite3.connect(database)
    try:
        return list(connection.execute("SELECT key, number FROM counted ORDER BY rowid"))
    finally:
        connection.close()


def assert_each_counted_once(database: Path) -> None:
    for key in KEYS:
        assert [number for who, number in counted(database) if who == key] == list(range(EACH))


@pytest.mark.asyncio
async def test_killed_at_any_moment_it_counts_each_event_exactly_once_with_a_store_of_its_own(
    nats_server: EmbeddedServer,
    nats_bus: Bus,
    app_name: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    seed = random.randrange(1 << 30)
    record_property("seed", seed)
    chance = random.Random(seed)
    database = tmp_path / "totals.db"
    await order_all(nats_bus)
    kills = 0
    while not database.exists() or len(counted(database)) < TOTAL:
        async with running(nats_server, app_name, database) as process:
            if kills < KILLS:
                await said(process, b"counted", chance.randrange(1, EACH))
            else:
                await said(process, ALL)
        kills += 1
    assert_each_counted_once(database)


@pytest.mark.asyncio
@pytest.mark.timeout(90)
async def test_a_server_that_is_killed_loses_no_event_and_doubles_none(tmp_path: Path, app_name: str) -> None:
    server = EmbeddedServer(tmp_path / "store", durability="process")
    await server.__aenter__()
    try:
        client = await connect(ServerAddress(url=server.url), name="test")
        counting = Counting()
        async with open_bus(client, app_name, create=True) as bus, shop(app_name, counting).host(bus) as node:
            server.settle()
            for cents in range(20):
                if cents in (5, 12):
                    os.kill(server.pid, signal.SIGKILL)
                    await server.wait_exited()
                    await server.__aexit__(None, None, None)
                    await server.__aenter__()
                await node.ref(Purse, "a").ask(Spend(cents=cents), timeout_s=60.0)
            assert await counting.wait(20) == [("a", cents) for cents in range(20)]
        await close(client)
    finally:
        await server.__aexit__(None, None, None)


@pytest.mark.asyncio
async def test_two_processes_with_one_store_count_each_event_exactly_once(
    nats_server: EmbeddedServer, nats_bus: Bus, app_name: str, tmp_path: Path
) -> None:
    database = tmp_path / "totals.db"
    async with running(nats_server, app_name, database) as one, running(nats_server, app_name, database) as other:
        await order_all(nats_bus)
        waiting = [asyncio.ensure_future(said(each, ALL)) for each in (one, other)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
    assert_each_counted_once(database)
