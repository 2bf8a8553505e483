"""The contract of mail beyond delivery, on memory and on a real server alike: what is suspect, what is shed, what is put aside,
what comes later, what is purged, and who can prove that he holds a shard."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import nats
import pytest
import pytest_asyncio

from regrow.bus import Address, Bus, Delivery, EmbeddedServer, MailboxFull, MemoryBus, PayloadTooLarge, open_bus
from regrow.bus import headers as names
from regrow.bus.memory_log import PAYLOAD_BYTES_MAX
from regrow.bus.port import CLAIM_BYTES_MAX
from regrow.bus.streams import MAILBOX_MESSAGES_MAX
from regrow.bus.subjects import BOXES, SHARDS, shard_of

pytestmark = pytest.mark.asyncio

ALICE = Address("counter", "alice")
BOB = Address("counter", "bob.=x")
WAIT_S = 10.0
HOUR_NS = 3_600 * 10**9
LARGE = bytes(range(256)) * (9 * PAYLOAD_BYTES_MAX // 256)
"""More than the embedded server takes in one message."""

Inbox = asyncio.Queue[Delivery]


@pytest_asyncio.fixture(params=["memory", "nats"])
async def nodes(request: pytest.FixtureRequest, nats_server: EmbeddedServer, app: str) -> AsyncGenerator[list[Bus]]:
    """Two nodes of one application."""
    if request.param == "memory":
        bus = MemoryBus(app)
        yield [bus, bus]
        return
    async with AsyncExitStack() as stack:
        buses: list[Bus] = []
        for number in range(2):
            client = await nats.connect(nats_server.url)
            stack.push_async_callback(client.close)
            buses.append(await stack.enter_async_context(open_bus(client, app, create=number == 0)))
        yield buses


async def take(inbox: Inbox, count: int = 1) -> list[Delivery]:
    async with asyncio.timeout(WAIT_S):
        return [await inbox.get() for _ in range(count)]


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [each.body for each in deliveries]


def unexpected(shard: int) -> None:
    raise AssertionError(f"shard {shard} was lost")


def ignored(_: object) -> None:
    return


async def serve_and_fail(bus: Bus) -> None:
    """A service that ends by an error of its host."""
    with pytest.raises(KeyError):
        async with bus.mail.serve(ignored, ignored):
            raise KeyError


async def until_gone(delivery: Delivery) -> None:
    """Returns once the server has taken the message out of its mailbox."""
    async with asyncio.timeout(WAIT_S):
        while True:
            delivery.shed()
            if not await delivery.fetch():
                return


# Suspects


async def test_mail_that_waits_for_the_first_owner_is_not_suspect(nodes: list[Bus]) -> None:
    inbox = Inbox()
    for box in BOXES:
        await nodes[0].mail.post(box, ALICE, b"")
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected) as holding:
        assert [each.suspect for each in await take(inbox, 2)] == [False, False]
        await holding.take_over()
        assert [each.suspect for each in await take(inbox, 2)] == [False, False]


async def test_mail_that_waited_when_a_shard_was_taken_from_its_holder_is_suspect_and_what_comes_later_is_not(
    nodes: list[Bus],
) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(ignored, ignored):
        for box in BOXES:
            await nodes[0].mail.post(box, ALICE, b"before")
        async with nodes[1].mail.serve(inbox.put_nowait, unexpected) as holding:
            for box in BOXES:
                await nodes[0].mail.post(box, ALICE, b"after")
            first = await take(inbox, 4)
            await holding.take_over()
            again = await take(inbox, 4)
    for got in (first, again):
        assert sorted((each.body, each.suspect) for each in got) == [(b"after", False)] * 2 + [(b"before", True)] * 2


async def test_mail_of_a_holder_that_left_by_itself_is_not_suspect(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(ignored, unexpected):
        await nodes[0].mail.post("in", ALICE, b"")
    async with nodes[1].mail.serve(inbox.put_nowait, unexpected):
        assert [each.suspect for each in await take(inbox)] == [False]


async def test_mail_of_a_holder_that_was_cancelled_is_not_suspect(nodes: list[Bus]) -> None:
    inbox = Inbox()
    serving = asyncio.Event()

    async def serve() -> None:
        async with nodes[0].mail.serve(ignored, unexpected):
            serving.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(serve())
    await serving.wait()
    await nodes[0].mail.post("in", ALICE, b"")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with nodes[1].mail.serve(inbox.put_nowait, unexpected):
        assert [each.suspect for each in await take(inbox)] == [False]


async def test_mail_of_a_holder_that_failed_is_suspect_until_somebody_left_by_himself(nodes: list[Bus]) -> None:
    inbox = Inbox()
    await nodes[0].mail.post("in", ALICE, b"")
    await serve_and_fail(nodes[0])
    for suspect in (True, False):
        async with nodes[1].mail.serve(inbox.put_nowait, unexpected):
            assert [each.suspect for each in await take(inbox)] == [suspect]


# Bodies that are not here


async def test_a_body_that_was_shed_is_fetched_again_and_the_headers_stay(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        for box in BOXES:
            for body in (b"x" * 1000, b""):
                await nodes[0].mail.post(box, BOB, body, {"Rg-Type": "order"})
                (delivery,) = await take(inbox)
                delivery.shed()
                assert (delivery.body, dict(delivery.headers)) == (b"", {"Rg-Type": "order"})
                assert await delivery.fetch()
                assert (delivery.body, dict(delivery.headers)) == (body, {"Rg-Type": "order"})
                await delivery.ack()


async def test_a_message_that_another_owner_acknowledged_is_not_fetched(nodes: list[Bus]) -> None:
    mine, theirs = Inbox(), Inbox()
    async with nodes[0].mail.serve(mine.put_nowait, ignored):
        await nodes[0].mail.post("in", ALICE, b"1")
        (old,) = await take(mine)
        old.shed()
        async with nodes[1].mail.serve(theirs.put_nowait, unexpected):
            assert await old.fetch()
            (new,) = await take(theirs)
            await new.ack()
            await until_gone(old)
            assert old.body == b""


async def test_a_body_too_large_for_a_message_is_put_aside_until_its_message_is_taken(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected) as holding:
        for box in BOXES:
            await nodes[1].mail.post(box, ALICE, LARGE, {"Rg-Id": "7"})
            (delivery,) = await take(inbox)
            assert (delivery.body, delivery.headers["Rg-Id"]) == (b"", "7")
            assert await delivery.fetch()
            assert delivery.body == LARGE
            delivery.shed()
            assert delivery.body == b""
            await holding.take_over()
            (again,) = await take(inbox)
            assert await again.fetch()
            assert again.body == LARGE
            await again.ack()
            await until_gone(again)


async def test_equal_large_bodies_are_put_aside_apart(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        for _ in range(2):
            await nodes[0].mail.post("in", ALICE, LARGE, {"Rg-Id": "7"})
        first, second = await take(inbox, 2)
        await first.ack()
        await until_gone(first)
        assert await second.fetch()
        assert second.body == LARGE


async def test_a_large_message_that_is_sent_again_under_its_id_is_one(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        first = await nodes[0].mail.post("act", ALICE, LARGE, message_id="e.1")
        assert await nodes[0].mail.post("act", ALICE, LARGE, message_id="e.1") == first
        (delivery,) = await take(inbox)
        assert await delivery.fetch()
        assert delivery.body == LARGE


async def test_a_message_that_refers_to_nothing_comes_with_an_empty_body(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected) as holding:
        await nodes[0].mail.post("act", ALICE, LARGE)
        (delivery,) = await take(inbox)
        forwarded = dict(delivery.headers)
        await nodes[0].mail.post("in", BOB, b"small", forwarded)
        (other,) = await take(inbox)
        assert (other.body, dict(other.headers)) == (b"small", {})
        await holding.take_over()


async def test_what_is_too_large_to_be_put_aside_is_refused(nodes: list[Bus]) -> None:
    body = bytes(CLAIM_BYTES_MAX + 1)
    with pytest.raises(PayloadTooLarge) as refused:
        await nodes[0].mail.post("in", ALICE, body)
    assert (refused.value.size, refused.value.limit) == (CLAIM_BYTES_MAX + 1, CLAIM_BYTES_MAX)
    with pytest.raises(PayloadTooLarge):
        await nodes[0].mail.schedule(ALICE, "1", body, at_ns=0)
    with pytest.raises(PayloadTooLarge):
        await nodes[0].mail.post("in", ALICE, b"", {"Rg-Chain": "x" * len(LARGE)})


async def test_a_large_message_for_a_full_mailbox_is_refused_and_taken_later(nodes: list[Bus]) -> None:
    inbox = Inbox()
    await asyncio.gather(*(nodes[0].mail.post("in", ALICE, b"") for _ in range(MAILBOX_MESSAGES_MAX)))
    with pytest.raises(MailboxFull):
        await nodes[0].mail.post("in", ALICE, LARGE)
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        first, *_ = await take(inbox, MAILBOX_MESSAGES_MAX)
        await first.ack()
        await until_gone(first)
        await nodes[0].mail.post("in", ALICE, LARGE)
        (delivery,) = await take(inbox)
        assert await delivery.fetch()
        assert delivery.body == LARGE


# Timers


async def test_a_scheduled_message_comes_as_mail_with_its_headers_and_not_before_its_time(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        at_ns = time.time_ns() + 300_000_000
        await nodes[1].mail.schedule(BOB, "17-0", b"{}", {"Rg-Type": "timer", "Rg-Timer": "t"}, at_ns=at_ns)
        (delivery,) = await take(inbox)
        assert time.time_ns() >= at_ns
        assert (delivery.box, delivery.address, delivery.body) == ("act", BOB, b"{}")
        assert {name: delivery.headers[name] for name in ("Rg-Type", "Rg-Timer")} == {
            "Rg-Type": "timer",
            "Rg-Timer": "t",
        }
        assert names.ID not in delivery.headers


@pytest.mark.parametrize("at_ns", [0, -1, 1_000_000_000])
async def test_a_time_in_the_past_comes_at_once(nodes: list[Bus], at_ns: int) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        await nodes[0].mail.schedule(ALICE, "1", b"late", at_ns=at_ns)
        assert bodies(await take(inbox)) == [b"late"]


@pytest.mark.parametrize("at_ns", [2**63 - 1, 2**80])
async def test_a_time_that_is_very_far_does_not_come(nodes: list[Bus], at_ns: int) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        await nodes[0].mail.schedule(ALICE, "far", b"never", at_ns=at_ns)
        await nodes[0].mail.schedule(ALICE, "near", b"now", at_ns=time.time_ns() + 600_000_000)
        assert bodies(await take(inbox)) == [b"now"]
        await nodes[0].mail.unschedule(ALICE, "far")


async def test_the_same_timer_again_replaces_the_first_and_one_that_was_removed_does_not_come(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        soon_ns = time.time_ns() + 300_000_000
        await nodes[0].mail.schedule(ALICE, "a", b"replaced", at_ns=soon_ns)
        await nodes[0].mail.schedule(ALICE, "a", b"a", at_ns=soon_ns + 1)
        await nodes[0].mail.schedule(ALICE, "b", b"removed", at_ns=soon_ns)
        await nodes[0].mail.schedule(BOB, "b", b"b", at_ns=soon_ns + 1)
        await nodes[1].mail.unschedule(ALICE, "b")
        await nodes[1].mail.unschedule(ALICE, "never-was")
        await nodes[0].mail.schedule(ALICE, "end", b"end", at_ns=soon_ns + 600_000_000)
        assert sorted(bodies(await take(inbox, 3))) == [b"a", b"b", b"end"]
        await nodes[1].mail.unschedule(ALICE, "end")
        await nodes[0].mail.schedule(ALICE, "end", b"again", at_ns=0)
        assert bodies(await take(inbox)) == [b"again"]


async def test_all_timers_of_one_actor_are_removed_together(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        soon_ns = time.time_ns() + 300_000_000
        await nodes[0].mail.schedule(ALICE, "a", b"removed", at_ns=soon_ns)
        await nodes[0].mail.schedule(ALICE, "b", b"removed", at_ns=soon_ns)
        await nodes[0].mail.schedule(BOB, "a", b"bob's", at_ns=soon_ns + 1)
        await nodes[1].mail.unschedule(ALICE, "*")
        await nodes[0].mail.schedule(ALICE, "end", b"end", at_ns=soon_ns + 600_000_000)
        assert bodies(await take(inbox, 2)) == [b"bob's", b"end"]


async def test_a_large_scheduled_message_is_put_aside(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        await nodes[0].mail.schedule(ALICE, "1", LARGE, {"Rg-Type": "timer"}, at_ns=0)
        (delivery,) = await take(inbox)
        assert await delivery.fetch()
        assert delivery.body == LARGE


async def test_a_large_message_that_is_scheduled_again_outlives_the_one_that_fired(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        await nodes[0].mail.schedule(ALICE, "1", LARGE, at_ns=0)
        (first,) = await take(inbox)
        await nodes[0].mail.schedule(ALICE, "1", LARGE, at_ns=1)
        await first.ack()
        await until_gone(first)
        (second,) = await take(inbox)
        assert await second.fetch()
        assert second.body == LARGE


@pytest.mark.parametrize("timer", ["", "*", ">", "a.b", "a b", "a\r\n"])
async def test_a_timer_has_a_name_of_one_plain_token(nodes: list[Bus], timer: str) -> None:
    with pytest.raises(ValueError):
        await nodes[0].mail.schedule(ALICE, timer, b"", at_ns=0)
    if timer != "*":  # all of them
        with pytest.raises(ValueError):
            await nodes[0].mail.unschedule(ALICE, timer)
    with pytest.raises(ValueError, match="order"):
        await nodes[0].mail.schedule(ALICE, "1", b"", {"Nats-Schedule": "@every 1s"}, at_ns=0)


# Purge


async def test_a_purge_takes_all_of_one_actor_and_nothing_of_others(nodes: list[Bus]) -> None:
    inbox = Inbox()
    soon_ns = time.time_ns() + 500_000_000
    for address in (ALICE, BOB):
        for box in BOXES:
            await nodes[0].mail.post(box, address, b"mail")
        await nodes[0].mail.schedule(address, "1", b"timer", at_ns=soon_ns)
        await nodes[0].mail.post("in", address, LARGE)
    await nodes[1].mail.purge(ALICE)
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        got = await take(inbox, 4)
        await nodes[0].mail.schedule(ALICE, "2", b"end", at_ns=soon_ns + 500_000_000)
        got += await take(inbox)
        assert [each.address for each in got] == [BOB] * 4 + [ALICE]
        for each in got:
            assert await each.fetch()
        assert sorted(bodies(got)) == sorted([b"mail", b"mail", LARGE, b"timer", b"end"])


async def test_mail_that_was_purged_is_not_fetched_and_its_acknowledgement_counts_for_nothing(nodes: list[Bus]) -> None:
    inbox = Inbox()
    async with nodes[0].mail.serve(inbox.put_nowait, unexpected):
        for _ in range(MAILBOX_MESSAGES_MAX):
            await nodes[0].mail.post("in", ALICE, b"1")
        got = await take(inbox, MAILBOX_MESSAGES_MAX)
        await nodes[0].mail.purge(ALICE)
        got[0].shed()
        assert not await got[0].fetch()
        for each in got[:10]:
            await each.ack()
        for _ in range(MAILBOX_MESSAGES_MAX):
            await nodes[0].mail.post("in", ALICE, b"2")
        with pytest.raises(MailboxFull):
            await nodes[0].mail.post("in", ALICE, b"3")
        assert bodies(await take(inbox, MAILBOX_MESSAGES_MAX)) == [b"2"] * MAILBOX_MESSAGES_MAX


# Who holds a shard


async def test_a_node_that_serves_holds_its_shards_and_one_that_ended_holds_none(nodes: list[Bus]) -> None:
    async with nodes[0].mail.serve(ignored, unexpected) as holding:
        assert all([await holding.holds(shard) for shard in range(SHARDS)])
        await holding.take_over()
        assert await holding.holds(0)
        assert not await holding.holds(SHARDS)
    assert not any([await holding.holds(shard) for shard in range(SHARDS)])


async def test_a_node_that_lost_its_shards_holds_none_once_it_knows(nodes: list[Bus]) -> None:
    lost: asyncio.Queue[int] = asyncio.Queue()
    shard = shard_of(ALICE)
    async with (
        nodes[0].mail.serve(ignored, lost.put_nowait) as mine,
        nodes[1].mail.serve(ignored, unexpected) as theirs,
    ):
        async with asyncio.timeout(WAIT_S):
            assert sorted([await lost.get() for _ in range(SHARDS)]) == list(range(SHARDS))
        assert not await mine.holds(shard)
        assert await theirs.holds(shard)
