"""What the log keeps beside and beyond single records: large ones, snapshots, listings, many logs as one; on both buses."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import cast

import msgspec
import nats
import pytest

from regrow.bus import (
    Address,
    ClaimMissing,
    EmbeddedServer,
    Followed,
    MemoryBus,
    NatsBus,
    PayloadTooLarge,
    StaleWriter,
    Stored,
    encode,
    log,
    open_bus,
)
from regrow.bus.port import CLAIM_BYTES_MAX
from regrow.bus.subjects import LOG_STREAMS, log_number

pytestmark = pytest.mark.asyncio

Nodes = tuple[MemoryBus, MemoryBus] | tuple[NatsBus, NatsBus]

ALICE = Address("counter", "alice")
BOB = Address("counter", "bob")
LARGE = "x" * (9 * 1024 * 1024)
"""More than a message may hold on either bus."""
WAIT_S = 10.0


def record(rid: str, **fields: object) -> bytes:
    return encode({"rid": rid, **fields})


async def take(records: AsyncIterator[Followed], count: int) -> list[Followed]:
    async with asyncio.timeout(WAIT_S):
        return [await anext(records) for _ in range(count)]


def followed(bus: MemoryBus | NatsBus, kind: str, after: dict[int, int]) -> AsyncGenerator[Followed]:
    return cast(AsyncGenerator[Followed], bus.log.follow(kind, after))


# Large records


async def test_a_record_too_large_for_a_message_is_read_back_whole_among_small_ones(nodes: Nodes) -> None:
    here, there = nodes
    datas = [record("1"), record("2", text=LARGE), record("3"), record("4", text=LARGE + "y")]
    last = 0
    for number, data in enumerate(datas, 1):
        last = await here.log.append(ALICE, data, rid=str(number), after=last)
    found = await there.log.read(ALICE)
    assert [each.data for each in found] == datas
    assert found[-1].sequence == last
    assert len(await there.claims.held("log", ALICE)) == 2


async def test_a_large_record_is_fenced_and_a_loser_leaves_nothing_behind(nodes: Nodes) -> None:
    here, there = nodes
    await here.log.append(ALICE, record("1"), rid="1", after=0)
    with pytest.raises(StaleWriter):
        await there.log.append(ALICE, record("2", text=LARGE), rid="2", after=0)
    assert [each.data for each in await here.log.read(ALICE)] == [record("1")]
    assert not await there.claims.held("log", ALICE)


async def test_a_large_record_appended_again_is_known_by_its_id(nodes: Nodes) -> None:
    here, there = nodes
    data = record("1", text=LARGE)
    first = await here.log.append(ALICE, data, rid="1", after=0)
    assert await there.log.append(ALICE, data, rid="1", after=0) == first
    assert [each.data for each in await here.log.read(ALICE)] == [data]


async def test_a_rollup_removes_what_the_earlier_records_had_put_aside(nodes: Nodes) -> None:
    here, there = nodes
    last = await here.log.append(ALICE, record("1", text=LARGE), rid="1", after=0)
    other = await here.log.append(BOB, record("b", text=LARGE), rid="b", after=0)
    last = await there.log.append(ALICE, record("2", text=LARGE + "y"), rid="2", after=last, rollup=True)
    assert len(await there.claims.held("log", ALICE)) == 1
    assert [each.data for each in await here.log.read(ALICE)] == [record("2", text=LARGE + "y")]
    await there.log.append(ALICE, record("3"), rid="3", after=last, rollup=True)
    assert not await there.claims.held("log", ALICE)
    assert [each.sequence for each in await here.log.read(BOB)] == [other]


async def test_what_a_crash_left_behind_goes_with_the_next_rollup(nodes: Nodes) -> None:
    here, there = nodes
    await here.claims.put("log", ALICE, b"never appended", "rid")
    await there.log.append(ALICE, record("1"), rid="1", after=0, rollup=True)
    assert not await there.claims.held("log", ALICE)


async def test_a_record_whose_bytes_are_lost_is_named(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "READ_PAUSE_S", 0.0)
    here, _ = nodes
    sequence = await here.log.append(ALICE, record("1", text=LARGE), rid="1", after=0)
    await here.claims.drop("log", ALICE)
    with pytest.raises(ClaimMissing, match=f"record {sequence} of counter/alice refers to the object"):
        await here.log.read(ALICE)


async def test_what_exceeds_the_limit_is_refused_before_anything_is_sent(nodes: Nodes) -> None:
    here, _ = nodes
    with pytest.raises(PayloadTooLarge) as error:
        await here.log.append(ALICE, bytes(CLAIM_BYTES_MAX + 1), rid="1", after=0)
    assert error.value.limit == CLAIM_BYTES_MAX
    with pytest.raises(PayloadTooLarge):
        await here.log.save(ALICE, bytes(CLAIM_BYTES_MAX + 1), 1)
    assert await here.log.read(ALICE) == []
    assert await here.log.saved(ALICE) is None


# Reading from a sequence on


async def test_a_log_is_read_behind_a_sequence(nodes: Nodes) -> None:
    here, there = nodes
    sequences = [0]
    for number in range(5):
        sequences.append(await here.log.append(ALICE, record(f"{number}"), rid=f"{number}", after=sequences[-1]))
    assert [each.sequence for each in await there.log.read(ALICE, sequences[2])] == sequences[3:]
    assert await there.log.read(ALICE, sequences[-1]) == []
    last = await here.log.append(ALICE, record("s"), rid="s", after=sequences[-1], rollup=True)
    assert [each.sequence for each in await there.log.read(ALICE, sequences[2])] == [last]


# Snapshots beside the log


@pytest.mark.parametrize("size", [10, len(LARGE)])
async def test_the_newest_snapshot_is_the_one_that_is_kept(nodes: Nodes, size: int) -> None:
    here, there = nodes
    assert await here.log.saved(ALICE) is None
    await here.log.save(ALICE, b"a" * size, 7)
    await here.log.save(ALICE, b"b" * size, 9)
    await there.log.save(ALICE, b"c" * size, 8)
    found = await there.log.saved(ALICE)
    assert found is not None
    assert (found.sequence, found.data) == (9, b"b" * size)
    assert found.time_ns > 1_700_000_000 * 10**9
    assert await here.log.saved(BOB) is None
    await here.log.forget(ALICE)
    assert await there.log.saved(ALICE) is None
    assert not await there.claims.held("snap", ALICE)


async def test_of_snapshots_saved_at_once_the_one_that_covers_most_wins(nodes: Nodes) -> None:
    here, there = nodes
    await asyncio.gather(*(bus.log.save(ALICE, b"%d" % n, n) for n, bus in ((1, here), (3, there), (2, here))))
    found = await here.log.saved(ALICE)
    assert found is not None
    assert (found.sequence, found.data) == (3, b"3")


async def test_forgetting_leaves_the_log_and_what_its_last_record_put_aside(nodes: Nodes) -> None:
    here, there = nodes
    await here.claims.put("log", ALICE, b"rubbish", "rid")
    data = record("1", text=LARGE)
    await here.log.append(ALICE, data, rid="1", after=0)
    await here.claims.put("log", ALICE, b"of an append under way", "rid")
    await there.log.forget(ALICE)
    await there.log.forget(BOB)
    assert [each.data for each in await here.log.read(ALICE)] == [data]
    assert len(await there.claims.held("log", ALICE)) == 2


# Who has a log


async def test_every_actor_with_a_log_is_listed(nodes: Nodes) -> None:
    here, there = nodes
    assert await here.log.addresses() == []
    counters = {Address("counter", key) for key in ("a", "b.c", "é ü", "*")}
    others = {Address("count", "a"), Address("other", "x")}
    for address in counters | others:
        await here.log.append(address, record("1"), rid="1", after=0)
        await here.log.read(Address("counter", "never wrote"))
    assert sorted(await there.log.addresses("counter")) == sorted(counters)
    assert sorted(await there.log.addresses()) == sorted(counters | others)
    assert await there.log.addresses("none") == []
    with pytest.raises(ValueError):
        await there.log.addresses("*")


# Many logs as one


async def test_the_logs_of_a_kind_are_followed_from_the_beginning_and_on(nodes: Nodes) -> None:
    here, there = nodes
    keys = [f"{number}" for number in range(40)]
    for key in keys:
        first = await here.log.append(Address("k", key), record("1", n=key), rid="1", after=0)
        await here.log.append(Address("k", key), record("2", n=key), rid="2", after=first)
        await here.log.append(Address("other", key), record("1"), rid="1", after=0)
    async with aclosing(followed(there, "k", {})) as records:
        found = await take(records, 80)
        assert {each.address for each in found} == {Address("k", key) for key in keys}
        assert [each.stream for each in found] == [log_number(each.address) for each in found]
        for number in range(LOG_STREAMS):
            sequences = [each.stored.sequence for each in found if each.stream == number]
            assert sequences == sorted(set(sequences))
        waiting = asyncio.ensure_future(take(records, 1))
        await here.log.append(Address("k", "late"), record("late"), rid="late", after=0)
        (late,) = await waiting
        assert (late.address, late.stored.data) == (Address("k", "late"), record("late"))


async def test_following_goes_on_where_it_was_left_off(nodes: Nodes) -> None:
    here, there = nodes
    last = 0
    for number in range(6):
        last = await here.log.append(ALICE, record(f"{number}", n=number), rid=f"{number}", after=last)
    async with aclosing(followed(here, "counter", {})) as records:
        seen = (await take(records, 4))[-1]
    async with aclosing(followed(there, "counter", {seen.stream: seen.stored.sequence})) as records:
        assert [each.stored.data for each in await take(records, 2)] == [record("4", n=4), record("5", n=5)]


async def test_a_follower_sees_large_records_whole_and_a_rollup_in_the_place_of_what_it_replaced(nodes: Nodes) -> None:
    here, there = nodes
    last = await here.log.append(ALICE, record("1", text=LARGE), rid="1", after=0)
    last = await here.log.append(ALICE, record("2", text=LARGE + "y"), rid="2", after=last, rollup=True)
    await here.log.append(ALICE, record("3"), rid="3", after=last)
    async with aclosing(followed(there, "counter", {})) as records:
        found = await take(records, 2)
    assert [each.stored.data for each in found] == [record("2", text=LARGE + "y"), record("3")]


# Readers and roll-ups at once


async def write(bus: MemoryBus | NatsBus, address: Address, count: int) -> None:
    """Records 1, 2, 3 … of which every seventh is a roll-up that holds the sum of all before it."""
    last = total = 0
    for number in range(1, count + 1):
        rollup = number % 7 == 0
        total += number
        data = record(f"{number}", n=number, total=total if rollup else None)
        last = await bus.log.append(address, data, rid=f"{number}", after=last, rollup=rollup)


def fold(records: list[Stored]) -> tuple[int, int]:
    """The sum of all numbers, and the last number."""
    total = number = 0
    for each in records:
        fields = msgspec.json.decode(each.data)
        number = fields["n"]
        total = total + number if fields["total"] is None else fields["total"]
    return total, number


async def test_readers_of_logs_that_are_written_and_rolled_up_fold_them_rightly(nodes: Nodes) -> None:
    here, there = nodes
    actors = [Address("k", f"{number}") for number in range(8)]
    written = asyncio.Event()

    async def read(address: Address) -> int:
        reads = 0
        while not written.is_set():
            records = await there.log.read(address)
            total, number = fold(records)
            assert total == number * (number + 1) // 2
            assert [each.sequence for each in records] == sorted(each.sequence for each in records)
            reads += 1
        return reads

    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(read(address)) for address in actors]
        await asyncio.gather(*(write(here, address, 150) for address in actors))
        written.set()
    assert all(reader.result() > 3 for reader in readers)
    assert {fold(await there.log.read(address)) for address in actors} == {(150 * 151 // 2, 150)}


async def test_a_follower_of_logs_that_are_rolled_up_folds_them_rightly(nodes: Nodes) -> None:
    here, there = nodes
    actors = [Address("k", f"{number}") for number in range(8)]
    seen: dict[Address, list[Stored]] = {address: [] for address in actors}
    async with asyncio.TaskGroup() as tasks, aclosing(followed(there, "k", {})) as records:
        for address in actors:
            tasks.create_task(write(here, address, 100))
        while any(fold(each)[1] < 100 for each in seen.values()):
            (one,) = await take(records, 1)
            seen[one.address].append(one.stored)
    for stored in seen.values():
        assert fold(stored) == (100 * 101 // 2, 100)
        assert [each.sequence for each in stored] == sorted({each.sequence for each in stored})


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of a handshake that failed: nats-py forgets its stream
async def test_a_follower_goes_on_after_the_server_was_killed(store_dir: Path, app: str) -> None:
    async with AsyncExitStack() as stack:
        lives = await stack.enter_async_context(AsyncExitStack())
        server = await lives.enter_async_context(EmbeddedServer(store_dir, durability="process"))
        client = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
        stack.push_async_callback(client.close)
        bus = await stack.enter_async_context(open_bus(client, app, create=True))
        last = await bus.log.append(ALICE, record("1"), rid="1", after=0)
        records = await stack.enter_async_context(aclosing(followed(bus, "counter", {})))
        found = await take(records, 1)
        waiting = asyncio.ensure_future(take(records, 1))
        server.settle()
        os.kill(server.pid, signal.SIGKILL)
        await server.wait_exited()
        await lives.aclose()
        await lives.enter_async_context(EmbeddedServer(store_dir, durability="process", port=server.port))
        await bus.log.append(ALICE, record("2"), rid="2", after=last)
        assert [each.stored.data for each in [*found, *await waiting]] == [record("1"), record("2")]
