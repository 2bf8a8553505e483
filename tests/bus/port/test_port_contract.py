"""The contract of the bus, on memory and on a real server alike."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from regrow.bus import (
    Address,
    Box,
    Bus,
    Delivery,
    EmbeddedServer,
    MailboxFull,
    MemoryBus,
    NoResponder,
    PayloadTooLarge,
    Request,
    RequestTimeout,
    StaleWriter,
    encode,
    open_bus,
)
from regrow.bus import headers as names
from regrow.bus.api import JetStreamApi
from regrow.bus.memory_log import PAYLOAD_BYTES_MAX
from regrow.bus.replies import ReplyInbox
from regrow.bus.streams import MAILBOX_MESSAGES_MAX
from regrow.bus.subjects import BOXES, SHARDS, log_number, shard_of

pytestmark = pytest.mark.asyncio

ALICE = Address("counter", "alice")
BOB = Address("counter", "bob")
WAIT_S = 10.0

Inbox = asyncio.Queue[Delivery]


@dataclass(frozen=True)
class World:
    """Two nodes of one application."""

    here: Bus
    there: Bus
    payload_bytes_max: int
    wait_stored: Callable[[Box, int], Awaitable[None]]
    """Returns when a mailbox holds that many messages, delivered ones included."""


@pytest_asyncio.fixture(params=["memory", "nats"])
async def world(request: pytest.FixtureRequest, nats_server: EmbeddedServer, app: str) -> AsyncGenerator[World]:
    if request.param == "memory":
        bus = MemoryBus(app)

        async def now(box: Box, count: int) -> None:
            assert len(bus.mail.waiting(box)) == count

        yield World(bus, bus, PAYLOAD_BYTES_MAX, now)
        return
    async with AsyncExitStack() as stack:
        clients: list[Client] = []
        for _ in range(2):
            client = await nats.connect(nats_server.url)
            stack.push_async_callback(client.close)
            clients.append(client)
        here = await stack.enter_async_context(open_bus(clients[0], app, create=True))
        there = await stack.enter_async_context(open_bus(clients[1], app))
        api = JetStreamApi(await stack.enter_async_context(ReplyInbox(clients[0])))

        async def polled(box: Box, count: int) -> None:
            async with asyncio.timeout(WAIT_S):
                verb = f"STREAM.INFO.{here.subjects.mail_stream(box)}"
                while (await api.call(verb))["state"]["messages"] != count:
                    pass

        yield World(here, there, clients[0].max_payload, polled)


def record(rid: str, **fields: object) -> bytes:
    return encode({"rid": rid, **fields})


async def take(inbox: Inbox, count: int = 1) -> list[Delivery]:
    async with asyncio.timeout(WAIT_S):
        return [await inbox.get() for _ in range(count)]


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [each.body for each in deliveries]


def unexpected(shard: int) -> None:
    raise AssertionError(f"shard {shard} was lost")


# The event log


async def test_a_record_is_read_back_as_it_was_appended(world: World) -> None:
    first = await world.here.log.append(ALICE, record("1"), rid="1", after=0)
    second = await world.here.log.append(ALICE, record("2", text="é"), rid="2", after=first)
    found = await world.there.log.read(ALICE)
    assert [each.sequence for each in found] == [first, second]
    assert [each.data for each in found] == [record("1"), record("2", text="é")]
    assert 0 < first < second
    assert 1_700_000_000 * 10**9 < found[0].time_ns <= found[1].time_ns


async def test_an_actor_that_never_wrote_has_an_empty_log(world: World) -> None:
    assert await world.here.log.read(ALICE) == []


async def test_logs_in_one_stream_are_fenced_apart(world: World) -> None:
    other = next(
        address
        for address in (Address("counter", str(number)) for number in range(1000))
        if log_number(address) == log_number(ALICE)
    )
    mine = await world.here.log.append(ALICE, record("a1"), rid="a1", after=0)
    await world.here.log.append(other, record("o1"), rid="o1", after=0)
    await world.here.log.append(ALICE, record("a2"), rid="a2", after=mine)
    assert [each.data for each in await world.here.log.read(ALICE)] == [record("a1"), record("a2")]
    assert [each.data for each in await world.here.log.read(other)] == [record("o1")]


async def test_odd_keys_have_logs_of_their_own(world: World) -> None:
    keys = ["a.b", "a=2Eb", "*", ">", "with space", "é/ü", "=2E", "a\r\nb", "🙂"]
    for key in keys:
        await world.here.log.append(Address("k", key), record(key), rid=key, after=0)
    for key in keys:
        assert [each.data for each in await world.there.log.read(Address("k", key))] == [record(key)]


@pytest.mark.parametrize("after", [0, 999_999])
async def test_a_stale_fence_is_refused_and_says_where_the_log_is(world: World, after: int) -> None:
    last = await world.here.log.append(ALICE, record("1"), rid="1", after=0)
    with pytest.raises(StaleWriter) as stale:
        await world.there.log.append(ALICE, record("2"), rid="2", after=after)
    assert (stale.value.expected, stale.value.found) == (after, last)
    assert [each.data for each in await world.here.log.read(ALICE)] == [record("1")]


async def test_one_of_many_racing_writers_wins(world: World) -> None:
    nodes = [world.here, world.there] * 10
    outcomes = await asyncio.gather(
        *(node.log.append(ALICE, record(f"{n}"), rid=f"{n}", after=0) for n, node in enumerate(nodes)),
        return_exceptions=True,
    )
    won = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, int)]
    assert len(won) == 1
    assert sum(isinstance(outcome, StaleWriter) for outcome in outcomes) == len(nodes) - 1
    assert [each.data for each in await world.here.log.read(ALICE)] == [record(f"{won[0]}")]


async def test_the_same_record_under_the_same_fence_is_recognised_and_stored_once(world: World) -> None:
    first = await world.here.log.append(ALICE, record("1"), rid="1", after=0)
    assert await world.here.log.append(ALICE, record("1"), rid="1", after=0) == first
    await world.here.log.append(ALICE, record("2"), rid="2", after=first)
    assert await world.here.log.append(ALICE, record("1"), rid="1", after=0) == first
    assert len(await world.here.log.read(ALICE)) == 2


async def test_a_rollup_removes_what_came_before_and_keeps_fencing(world: World) -> None:
    last = 0
    for number in range(5):
        last = await world.here.log.append(ALICE, record(f"{number}"), rid=f"{number}", after=last)
    rolled = await world.here.log.append(ALICE, record("s"), rid="s", after=last, rollup=True)
    assert [each.data for each in await world.there.log.read(ALICE)] == [record("s")]
    for stale in (0, last):
        with pytest.raises(StaleWriter):
            await world.there.log.append(ALICE, record("x"), rid="x", after=stale)
    with pytest.raises(StaleWriter):
        await world.there.log.append(ALICE, record("y"), rid="y", after=last, rollup=True)
    assert await world.here.log.append(ALICE, record("s"), rid="s", after=last, rollup=True) == rolled
    await world.there.log.append(ALICE, record("6"), rid="6", after=rolled)
    assert [each.data for each in await world.here.log.read(ALICE)] == [record("s"), record("6")]


async def test_a_record_that_fits_only_without_its_headers_is_put_aside_and_read_back_whole(world: World) -> None:
    room = world.payload_bytes_max - names.size(names.fence(0)) - len(record("1", pad=""))
    for address, length in ((ALICE, room), (BOB, room + 1)):
        last = await world.here.log.append(address, record("1", pad="x" * length), rid="1", after=0)
        (found,) = await world.there.log.read(address)
        assert (found.sequence, found.data) == (last, record("1", pad="x" * length))


async def test_addresses_and_fences_that_cannot_be_are_refused(world: World) -> None:
    for address in (Address("k", ""), Address("a.b", "x"), Address("", "x")):
        with pytest.raises(ValueError):
            await world.here.log.append(address, record("1"), rid="1", after=0)
        with pytest.raises(ValueError):
            await world.here.log.read(address)
        with pytest.raises(ValueError):
            await world.here.mail.post("in", address, b"")
    with pytest.raises(ValueError):
        await world.here.log.append(ALICE, record("1"), rid="1", after=-1)


async def test_the_records_of_all_logs_are_counted_without_what_a_rollup_replaced(world: World) -> None:
    assert await world.here.count_records() == 0
    for number in range(40):
        await world.here.log.append(Address("k", f"{number}"), record("1"), rid="1", after=0)
    last = await world.here.log.append(ALICE, record("1"), rid="1", after=0)
    await world.here.log.append(ALICE, record("2"), rid="2", after=last, rollup=True)
    assert await world.there.count_records() == 41


# The mailboxes


async def test_mail_is_delivered_whole(world: World) -> None:
    inbox = Inbox()
    async with world.here.mail.serve(inbox.put_nowait, unexpected):
        for box in BOXES:
            sequence = await world.there.mail.post(box, ALICE, b"{}", {"Rg-Id": "7", "traceparent": "00-a"})
            (delivery,) = await take(inbox)
            assert (delivery.box, delivery.address, delivery.sequence) == (box, ALICE, sequence)
            assert (delivery.body, dict(delivery.headers)) == (b"{}", {"Rg-Id": "7", "traceparent": "00-a"})


async def test_an_id_is_the_only_header_that_the_bus_adds(world: World) -> None:
    inbox = Inbox()
    async with world.here.mail.serve(inbox.put_nowait, unexpected):
        await world.here.mail.post("in", ALICE, b"")
        assert dict((await take(inbox))[0].headers) == {}
        await world.here.mail.post("act", ALICE, b"", message_id="e.1.2")
        assert dict((await take(inbox))[0].headers) == {"Nats-Msg-Id": "e.1.2"}


async def test_mail_of_an_actor_comes_in_order_whoever_posts_between(world: World) -> None:
    inbox = Inbox()
    async with world.here.mail.serve(inbox.put_nowait, unexpected):
        for number in range(100):
            await world.there.mail.post("in", ALICE, b"a%d" % number)
            await world.there.mail.post("in", BOB, b"b%d" % number)
        got = await take(inbox, 200)
    assert [each.body for each in got if each.address == ALICE] == [b"a%d" % n for n in range(100)]
    assert [each.body for each in got if each.address == BOB] == [b"b%d" % n for n in range(100)]


async def test_mail_waits_for_whoever_serves_next(world: World) -> None:
    inbox = Inbox()
    for box in BOXES:
        await world.here.mail.post(box, ALICE, box.encode())
    async with world.there.mail.serve(inbox.put_nowait, unexpected):
        assert {each.body for each in await take(inbox, 2)} == {b"in", b"act"}


async def test_a_takeover_brings_what_is_not_acknowledged_again_in_order(world: World) -> None:
    first, second = Inbox(), Inbox()
    lost: list[int] = []
    async with world.here.mail.serve(first.put_nowait, lost.append):
        for number in range(20):
            await world.here.mail.post("in", ALICE, b"%d" % number)
        for delivery in (await take(first, 20))[::2]:
            await delivery.ack()
        await world.wait_stored("in", 10)
        async with world.there.mail.serve(second.put_nowait, unexpected):
            assert bodies(await take(second, 10)) == [b"%d" % number for number in range(1, 20, 2)]


async def test_the_old_owner_loses_each_shard_once_and_gets_no_more_mail(world: World) -> None:
    first, second = Inbox(), Inbox()
    lost: asyncio.Queue[int] = asyncio.Queue()
    async with (
        world.here.mail.serve(first.put_nowait, lost.put_nowait),
        world.there.mail.serve(second.put_nowait, unexpected),
    ):
        async with asyncio.timeout(WAIT_S):
            assert sorted([await lost.get() for _ in range(SHARDS)]) == list(range(SHARDS))
        for number in range(100):
            await world.here.mail.post("act", Address("k", f"{number}"), b"")
        await take(second, 100)
        assert first.empty()
        assert lost.empty()


async def test_acknowledgements_of_the_old_owner_have_no_effect(world: World) -> None:
    first, second, third = Inbox(), Inbox(), Inbox()
    lost: list[int] = []
    async with world.here.mail.serve(first.put_nowait, lost.append):
        for box in BOXES:
            await world.here.mail.post(box, ALICE, box.encode())
        old = await take(first, 2)
        async with world.there.mail.serve(second.put_nowait, unexpected):
            await take(second, 2)
            for delivery in old:
                await delivery.ack()
        async with world.there.mail.serve(third.put_nowait, unexpected):
            assert {each.body for each in await take(third, 2)} == {b"in", b"act"}


async def test_the_same_owner_may_take_over_again_and_its_own_old_acknowledgements_count_no_more(world: World) -> None:
    inbox = Inbox()
    async with world.here.mail.serve(inbox.put_nowait, unexpected) as holding:
        for number in range(10):
            await world.here.mail.post("in", ALICE, b"%d" % number)
        old = await take(inbox, 10)
        await old[0].ack()
        await world.wait_stored("in", 9)
        await holding.take_over()
        again = await take(inbox, 9)
        assert bodies(again) == [b"%d" % number for number in range(1, 10)]
        await old[1].ack()
        await holding.take_over()
        latest = await take(inbox, 9)
        assert bodies(latest) == bodies(again)
        for delivery in latest:
            await delivery.ack()
        await world.wait_stored("in", 0)


async def test_takeovers_of_one_node_at_once_lose_nothing(world: World) -> None:
    inbox = Inbox()
    async with world.here.mail.serve(inbox.put_nowait, unexpected) as holding:
        await asyncio.gather(holding.take_over(), holding.take_over(), holding.take_over())
        for number in range(20):
            await world.here.mail.post("in", Address("k", f"{number}"), b"%d" % number)
        assert sorted(bodies(await take(inbox, 20))) == sorted(b"%d" % number for number in range(20))
        await world.here.mail.post("in", ALICE, b"last")
        assert bodies(await take(inbox)) == [b"last"]


async def test_two_racing_nodes_end_with_one_owner_for_each_shard(world: World) -> None:
    one, other = Inbox(), Inbox()
    lost: dict[str, list[int]] = {"one": [], "other": []}
    async with (
        world.here.mail.serve(one.put_nowait, lost["one"].append) as one_holding,
        world.there.mail.serve(other.put_nowait, lost["other"].append) as other_holding,
    ):
        for _ in range(3):
            await asyncio.gather(one_holding.take_over(), other_holding.take_over())
        addresses = [Address("k", f"{number}") for number in range(150)]
        assert {shard_of(address) for address in addresses} == set(range(SHARDS))
        for address in addresses:
            for box in BOXES:
                await world.here.mail.post(box, address, b"")
        got: list[tuple[str, Delivery]] = []
        async with asyncio.timeout(WAIT_S):
            while len(got) < 2 * len(addresses):
                got += [("one", one.get_nowait())] if not one.empty() else []
                got += [("other", other.get_nowait())] if not other.empty() else []
                await asyncio.sleep(0)
        assert len({(each.box, each.sequence) for _, each in got}) == len(got)
        owners = {shard: {who for who, each in got if shard_of(each.address) == shard} for shard in range(SHARDS)}
        assert all(len(who) == 1 for who in owners.values())
        for delivery in (each for _, each in got):
            await delivery.ack()
        for box in BOXES:
            await world.wait_stored(box, 0)
    assert one.empty()
    assert other.empty()


async def test_the_outside_mailbox_pushes_back_per_actor_and_takes_mail_again(world: World) -> None:
    inbox = Inbox()
    await asyncio.gather(*(world.here.mail.post("in", ALICE, b"") for _ in range(MAILBOX_MESSAGES_MAX)))
    with pytest.raises(MailboxFull):
        await world.here.mail.post("in", ALICE, b"one too many")
    await world.here.mail.post("in", BOB, b"")
    await world.here.mail.post("act", ALICE, b"")
    async with world.here.mail.serve(inbox.put_nowait, unexpected):
        got = await take(inbox, MAILBOX_MESSAGES_MAX + 2)
        await next(each for each in got if each.address == ALICE and each.box == "in").ack()
        await world.wait_stored("in", MAILBOX_MESSAGES_MAX)
        await world.here.mail.post("in", ALICE, b"room again")
        assert bodies(await take(inbox)) == [b"room again"]


async def test_the_runtimes_own_mailbox_is_never_full(world: World) -> None:
    inbox = Inbox()
    count = MAILBOX_MESSAGES_MAX + 1
    await asyncio.gather(*(world.here.mail.post("act", ALICE, b"") for _ in range(count)))
    async with world.here.mail.serve(inbox.put_nowait, unexpected):
        got = await take(inbox, count)
    assert [each.sequence for each in got] == sorted(each.sequence for each in got)


async def test_a_relay_with_a_known_id_is_stored_once(world: World) -> None:
    inbox = Inbox()
    first = await world.here.mail.post("act", ALICE, b"1", message_id="e.1.0")
    await world.here.mail.post("act", ALICE, b"2", message_id="e.2.0")
    assert await world.there.mail.post("act", ALICE, b"1", message_id="e.1.0") == first
    async with world.here.mail.serve(inbox.put_nowait, unexpected):
        await world.here.mail.post("act", ALICE, b"3")
        assert bodies(await take(inbox, 3)) == [b"1", b"2", b"3"]


async def test_a_known_id_is_known_after_its_message_was_taken(world: World) -> None:
    inbox = Inbox()
    async with world.here.mail.serve(inbox.put_nowait, unexpected):
        await world.here.mail.post("act", ALICE, b"1", message_id="e.1.0")
        await (await take(inbox))[0].ack()
        await world.wait_stored("act", 0)
        await world.here.mail.post("act", ALICE, b"1", message_id="e.1.0")
        await world.here.mail.post("act", ALICE, b"2")
        assert bodies(await take(inbox)) == [b"2"]


async def test_orders_to_the_server_are_refused_in_mail(world: World) -> None:
    for box in BOXES:
        with pytest.raises(ValueError, match="order"):
            await world.here.mail.post(box, ALICE, b"", {"Nats-Rollup": "all"})
    with pytest.raises(ValueError, match="Rg-Id"):
        await world.here.mail.post("in", ALICE, b"", message_id="guessed")


async def test_mail_that_just_fits_with_its_headers_comes_whole_and_what_does_not_is_put_aside(world: World) -> None:
    inbox = Inbox()
    given = {"Rg-Id": "7"}
    room = world.payload_bytes_max - names.size(given)
    async with world.here.mail.serve(inbox.put_nowait, unexpected):
        await world.here.mail.post("in", ALICE, bytes(room), given)
        await world.here.mail.post("in", ALICE, bytes(room + 1), given)
        assert [len(body) for body in bodies(await take(inbox, 2))] == [room, 0]


async def test_after_the_block_nothing_is_delivered_and_nothing_is_gone(world: World) -> None:
    inbox, later = Inbox(), Inbox()
    async with world.here.mail.serve(inbox.put_nowait, unexpected):
        await world.here.mail.post("in", ALICE, b"1")
        await take(inbox)
    await world.here.mail.post("in", ALICE, b"2")
    async with world.here.mail.serve(later.put_nowait, unexpected):
        assert bodies(await take(later, 2)) == [b"1", b"2"]
    assert inbox.empty()


async def test_an_error_of_the_host_comes_out_of_the_block_as_it_is(world: World) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as raised:
        async with world.here.mail.serve(Inbox().put_nowait, unexpected):
            raise error
    assert raised.value is error
    assert error.__context__ is None


# Requests


async def test_a_request_is_answered_with_headers_both_ways(world: World) -> None:
    asked: asyncio.Queue[Request] = asyncio.Queue()

    async with world.there.serve("echo.*", asked.put_nowait), asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(world.here.request("echo.a", b"hi", {"Rg-Id": "1"}, timeout_s=WAIT_S))
        got = await asked.get()
        assert (got.subject, got.body, dict(got.headers)) == ("echo.a", b"hi", {"Rg-Id": "1"})
        await world.there.publish(got.reply, b"ho", {names.ERROR_CODE: "404"})
    reply = answer.result()
    assert (reply.body, dict(reply.headers)) == (b"ho", {names.ERROR_CODE: "404"})


async def test_nobody_answers_at_once_where_nobody_serves(world: World) -> None:
    with pytest.raises(NoResponder):
        await world.here.request("nobody.here", b"", timeout_s=WAIT_S)
    async with world.here.serve("nobody.here", lambda request: None):
        pass
    with pytest.raises(NoResponder):
        await world.here.request("nobody.here", b"", timeout_s=WAIT_S)


async def test_a_silent_server_times_the_request_out(world: World) -> None:
    async with world.there.serve("silent", lambda request: None):
        with pytest.raises(RequestTimeout) as timeout:
            await world.here.request("silent", b"", timeout_s=0.05)
    assert (timeout.value.subject, timeout.value.timeout_s) == ("silent", 0.05)


async def test_a_served_subject_is_known_to_all_before_the_block_begins(world: World) -> None:
    for number in range(50):
        async with world.there.serve(f"served.{number}", lambda request: None):
            with pytest.raises(RequestTimeout):  # and never NoResponder
                await world.here.request(f"served.{number}", b"", timeout_s=0.005)


async def test_a_queue_hands_each_message_to_one_server(world: World) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    def receive(request: Request) -> None:
        got.put_nowait(request.body)

    async with (
        world.here.serve("work", receive, queue="q"),
        world.there.serve("work", receive, queue="q"),
        world.here.serve("done", receive),
    ):
        for number in range(50):
            await world.here.publish("work", b"%d" % number)
        async with asyncio.timeout(WAIT_S):
            bodies = [await got.get() for _ in range(50)]
            await world.here.publish("done", b"done")
            assert await got.get() == b"done"
    assert sorted(bodies) == sorted(b"%d" % number for number in range(50))


async def test_a_reply_subject_lives_as_long_as_its_block(world: World) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()
    async with world.here.expect_reply(lambda reply: got.put_nowait(reply.body)) as subject:
        for number in range(3):
            await world.there.publish(subject, b"%d" % number)
        async with asyncio.timeout(WAIT_S):
            assert [await got.get() for _ in range(3)] == [b"0", b"1", b"2"]
    async with world.here.expect_reply(lambda reply: got.put_nowait(reply.body)) as other:
        assert other != subject
        await world.there.publish(subject, b"late")
        await world.there.publish(other, b"on time")
        async with asyncio.timeout(WAIT_S):
            assert await got.get() == b"on time"


async def test_what_somebody_else_chose_as_a_subject_is_checked(world: World) -> None:
    for subject in ("", "a b", "a.*", "_INBOX.x\r\nPUB rg.shop.evt.0.k.a 0"):
        with pytest.raises(ValueError, match="not a subject"):
            await world.here.publish(subject, b"")
        with pytest.raises(ValueError, match="not a subject"):
            await world.here.request(subject, b"", timeout_s=WAIT_S)


async def test_a_core_message_that_does_not_fit_is_refused_and_the_bus_lives(world: World) -> None:
    with pytest.raises(PayloadTooLarge):
        await world.here.publish("a", bytes(world.payload_bytes_max), {"a": "b"})
    with pytest.raises(PayloadTooLarge):
        await world.here.request("a", bytes(world.payload_bytes_max + 1), timeout_s=WAIT_S)
    assert await world.here.log.read(ALICE) == []


async def test_dead_letters_are_taken_for_any_actor(world: World) -> None:
    await world.here.dead.bury(ALICE, b"{}", message_id="1")
    await world.here.dead.bury(ALICE, b"{}", message_id="1")
    with pytest.raises(ValueError):
        await world.here.dead.bury(Address("k", ""), b"{}", message_id="2")


async def test_an_application_has_an_epoch_that_all_its_nodes_see(world: World) -> None:
    assert len(world.here.epoch) >= 12
    assert world.here.epoch == world.there.epoch
    assert MemoryBus("other").epoch != world.here.epoch
