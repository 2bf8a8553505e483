"""The log on JetStream: pages, roll-ups under a reader, and what a refusal means."""

import asyncio

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus import (
    Address,
    BusError,
    EmbeddedServer,
    MailboxFull,
    NatsBus,
    ReadBroken,
    StaleWriter,
    StoreFull,
    Unreachable,
    encode,
    log,
    open_bus,
)
from regrow.bus.api import LIMIT_REACHED, NO_ROOM, ApiError, Refusal
from regrow.bus.log import from_last_rollup
from regrow.bus.pages import READ_BATCH, is_whole, time_ns
from regrow.bus.publishing import refused
from regrow.bus.subjects import log_number

ALICE = Address("counter", "alice")
MEGABYTE = 1024 * 1024


def record(rid: str, **fields: object) -> bytes:
    return encode({"rid": rid, **fields})


async def fill(bus: NatsBus, address: Address, count: int, last: int = 0) -> int:
    for number in range(count):
        last = await bus.log.append(address, record(f"{last}.{number}"), rid=f"{last}.{number}", after=last)
    return last


def stored(sequence: int, before: int, **headers: str) -> Msg:
    known = {
        "Nats-Sequence": str(sequence),
        "Nats-Last-Sequence": str(before),
        "Nats-Time-Stamp": "2026-01-02T03:04:05Z",
    }
    return Msg(Client(), "reply", "", b"{}", known | {name.replace("_", "-"): value for name, value in headers.items()})


def closing(last: int, code: str = "204") -> Msg:
    return Msg(Client(), "reply", "", b"", {"Status": code, "Nats-Last-Sequence": str(last)})


@pytest.mark.asyncio
async def test_a_log_is_read_whole_when_it_ends_with_a_page_and_when_it_does_not(nats_bus: NatsBus) -> None:
    last = 0
    for more in (READ_BATCH - 1, 1, 1, READ_BATCH - 1, 1):
        last = await fill(nats_bus, ALICE, more, last)
        found = await nats_bus.log.read(ALICE)
        assert [each.sequence for each in found] == list(range(1, last + 1))
    assert last == 2 * READ_BATCH + 1


@pytest.mark.asyncio
async def test_a_log_larger_than_the_server_sends_at_once_is_read_whole(nats_bus: NatsBus) -> None:
    last = 0
    for number in range(10):  # the server ends a batch at 64 MB
        data = record(f"{number}", pad="x" * (7 * MEGABYTE))
        last = await nats_bus.log.append(ALICE, data, rid=f"{number}", after=last)
    assert [each.sequence for each in await nats_bus.log.read(ALICE)] == list(range(1, 11))


@pytest.mark.asyncio
async def test_a_reader_never_sees_what_a_rollup_replaced(nats_bus: NatsBus) -> None:
    done = asyncio.Event()

    async def write() -> None:
        last = 0
        for number in range(200):
            rollup = number % 7 == 6
            data = record(f"{number}", n=number, rollup=rollup)
            last = await nats_bus.log.append(ALICE, data, rid=f"{number}", after=last, rollup=rollup)
        done.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        reads = 0
        while not done.is_set():
            found = [each.data for each in await nats_bus.log.read(ALICE)]
            assert all(b'"rollup":true' not in each for each in found[1:])
            assert not found or b'"rollup":true' in found[0] or b'"n":0,' in found[0]
            reads += 1
    assert reads > 10


@pytest.mark.asyncio
async def test_a_large_log_that_is_rolled_up_between_two_pages_is_its_rollup(nats_bus: NatsBus) -> None:
    last = await fill(nats_bus, ALICE, READ_BATCH + 500)
    whole = asyncio.ensure_future(nats_bus.log.read(ALICE))
    await nats_bus.log.append(ALICE, record("s"), rid="s", after=last, rollup=True)
    found = await whole
    assert len(found) in (1, READ_BATCH + 500)
    assert len(await nats_bus.log.read(ALICE)) == 1


@pytest.mark.asyncio
async def test_a_record_that_is_none_makes_a_writer_stale(nats_bus: NatsBus, client: Client) -> None:
    answer = await client.request(nats_bus.subjects.log(ALICE), b"not a record", timeout=10)
    assert b'"seq":1' in answer.data
    with pytest.raises(StaleWriter) as stale:
        await nats_bus.log.append(ALICE, record("1"), rid="1", after=0)
    assert stale.value.found == 1


@pytest.mark.asyncio
async def test_appends_to_thousands_of_logs_at_once_are_all_stored(nats_bus: NatsBus) -> None:
    addresses = [Address("k", f"{number}") for number in range(2000)]
    sequences = await asyncio.gather(
        *(nats_bus.log.append(address, record(address.key), rid=address.key, after=0) for address in addresses)
    )
    found = await asyncio.gather(*(nats_bus.log.read(address) for address in addresses[::50]))
    assert [each[0].sequence for each in found] == sequences[::50]


@pytest.mark.asyncio
async def test_an_append_on_a_closed_connection_ends_at_once(
    nats_server: EmbeddedServer, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "RESEND_PAUSE_S", 3600.0)
    monkeypatch.setattr(log, "READ_PAUSE_S", 3600.0)
    client = await nats.connect(nats_server.url)
    async with open_bus(client, app, create=True) as bus:
        await client.close()
        with pytest.raises(Unreachable):
            await bus.log.append(ALICE, record("1"), rid="1", after=0)
        with pytest.raises(Unreachable):
            await bus.log.read(ALICE)


@pytest.mark.asyncio
async def test_an_append_that_is_under_way_ends_with_the_connection(
    nats_server: EmbeddedServer, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "RESEND_PAUSE_S", 0.01)
    client = await nats.connect(nats_server.url)
    async with open_bus(client, app, create=True) as bus:
        stream = bus.subjects.log_stream(log_number(ALICE))
        await client.request(f"$JS.API.STREAM.DELETE.{stream}", timeout=10)
        append = asyncio.ensure_future(bus.log.append(ALICE, record("1"), rid="1", after=0))
        read = asyncio.ensure_future(bus.log.read(ALICE))
        await client.flush()
        await client.close()
        async with asyncio.timeout(5):
            with pytest.raises(BusError):
                await append
            with pytest.raises(BusError):
                await read


@pytest.mark.asyncio
async def test_a_read_that_stays_broken_says_so(
    nats_bus: NatsBus, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "READ_PAUSE_S", 0.0)
    await client.request(f"$JS.API.STREAM.DELETE.{nats_bus.subjects.log_stream(log_number(ALICE))}", timeout=10)
    with pytest.raises(ReadBroken):
        await nats_bus.log.read(ALICE)


def test_a_page_with_every_record_is_whole() -> None:
    assert is_whole([stored(4, 0), stored(9, 4)], closing(9))


def test_a_page_that_lacks_a_record_is_not() -> None:
    assert not is_whole([], closing(9))
    assert not is_whole([stored(4, 0)], closing(9))
    assert not is_whole([stored(9, 4)], closing(9))
    assert not is_whole([stored(4, 0), stored(9, 7)], closing(9))
    assert not is_whole([stored(4, 0), stored(9, 4)], closing(9, "408"))


def test_records_before_a_rollup_are_dropped_within_a_page_and_across_pages() -> None:
    first = from_last_rollup([], [stored(1, 0), stored(2, 1)])
    assert [each.sequence for each in first] == [1, 2]
    second = from_last_rollup(first, [stored(3, 0), stored(4, 3, Nats_Rollup="sub"), stored(5, 4)])
    assert [each.sequence for each in second] == [4, 5]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("2026-11-23T21:22:09.335957562Z", 1_795_468_929_335_957_562),
        ("2026-11-23T21:22:09.00000001Z", 1_795_468_929_000_000_010),
    ],
)
def test_the_servers_time_is_read_to_the_nanosecond(text: str, value: int) -> None:
    assert time_ns(text) == value


def test_a_refusal_is_named_by_what_is_full() -> None:
    assert isinstance(refused("s", Refusal(503, LIMIT_REACHED)), StoreFull)
    assert isinstance(refused("s", Refusal(503, LIMIT_REACHED), MailboxFull), MailboxFull)
    for code in NO_ROOM:
        assert isinstance(refused("s", Refusal(503, code), MailboxFull), StoreFull)
    other = refused("s", Refusal(400, 10188, "no roll-ups"))
    assert isinstance(other, ApiError)
    assert str(other) == "the server refused a publish to s: no roll-ups (10188)"
