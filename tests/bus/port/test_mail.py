"""Mail on JetStream: what outsiders may try, where the server files mail, and how a service ends."""

import asyncio
import json
import random
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from regrow.bus import (
    Address,
    Delivery,
    EmbeddedServer,
    NatsBus,
    StoreUnavailable,
    Unreachable,
    consumer,
    open_bus,
)
from regrow.bus import headers as names
from regrow.bus.api import JetStreamApi
from regrow.bus.consumer import PULL_BATCH, Consumer, parse_name
from regrow.bus.replies import ReplyInbox
from regrow.bus.shards import Shards
from regrow.bus.streams import MAILBOX_MESSAGES_MAX
from regrow.bus.subjects import BOXES, SHARDS, escape, shard_of

pytestmark = pytest.mark.asyncio

ALICE = Address("counter", "alice")
MALLORY = Address("counter", "mallory")
WAIT_S = 20.0  # longer than a consumer may be silent

Inbox = asyncio.Queue[Delivery]


async def take(inbox: Inbox, count: int = 1) -> list[Delivery]:
    async with asyncio.timeout(WAIT_S):
        return [await inbox.get() for _ in range(count)]


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [each.body for each in deliveries]


def unexpected(shard: int) -> None:
    raise AssertionError(f"shard {shard} was lost")


async def call(client: Client, verb: str, body: object = None) -> dict[str, Any]:
    answer = await client.request(f"$JS.API.{verb}", json.dumps(body or {}).encode(), timeout=WAIT_S)
    fields: dict[str, Any] = json.loads(answer.data)
    assert "error" not in fields, fields
    return fields


async def outsider(client: Client, subject: str, body: bytes = b"", **headers: str) -> dict[str, Any]:
    """The server's answer to a publish by anybody who may write to his own mailbox."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await client.request(subject, body, timeout=WAIT_S, headers=given or None)
    fields: dict[str, Any] = json.loads(answer.data)
    return fields


async def consumers(client: Client, bus: NatsBus) -> list[str]:
    found: list[str] = []
    for box in BOXES:
        found += (await call(client, f"CONSUMER.NAMES.{bus.subjects.mail_stream(box)}"))["consumers"] or []
    return found


def random_addresses(count: int) -> list[Address]:
    """Kinds and keys of every sort, the same in each run."""
    dice = random.Random(7)
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
    wild = plain + " .*>=$/\\\"'äß€語🙂\t\r\n\x00\x7f"
    return [
        Address("".join(dice.choices(plain, k=dice.randint(1, 12))), "".join(dice.choices(wild, k=dice.randint(1, 20))))
        for _ in range(count)
    ]


async def test_the_server_files_every_actor_in_the_shard_that_we_compute(nats_bus: NatsBus, client: Client) -> None:
    for box, letter in (("in", "q"), ("act", "aq")):
        addresses = list(dict.fromkeys(random_addresses(400)))
        for address in addresses:
            subject = f"rg.{nats_bus.subjects.app}.{box}.{address.kind}.{escape(address.key)}"
            sequence = (await outsider(client, subject))["seq"]
            stream = f"RG_{nats_bus.subjects.app}_{box.upper()}"
            stored = await call(client, f"STREAM.MSG.GET.{stream}", {"seq": sequence})
            expected = f"rg.{nats_bus.subjects.app}.{letter}.{shard_of(address)}.{address.kind}.{escape(address.key)}"
            assert stored["message"]["subject"] == expected
            assert nats_bus.subjects.address(expected) == address


async def test_many_more_messages_than_one_pull_brings_flow_in_order(nats_bus: NatsBus) -> None:
    inbox = Inbox()
    count = 7 * PULL_BATCH + 3
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        await asyncio.gather(*(nats_bus.mail.post("act", ALICE, b"%d" % number) for number in range(count)))
        got = await take(inbox, count)
        assert bodies(got) == [b"%d" % number for number in range(count)]
        assert [each.sequence for each in got] == sorted({each.sequence for each in got})


async def test_messages_that_are_not_acknowledged_hold_nobody_up(nats_bus: NatsBus) -> None:
    inbox = Inbox()
    neighbour = next(
        address
        for address in (Address("counter", str(number)) for number in range(1000))
        if shard_of(address) == shard_of(ALICE)
    )
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        await asyncio.gather(*(nats_bus.mail.post("act", ALICE, b"") for _ in range(5_000)))
        await nats_bus.mail.post("act", neighbour, b"me too")
        assert bodies(await take(inbox, 5_001))[-1] == b"me too"


# What anybody may try who may write to his own mailbox


async def test_a_rollup_or_a_schedule_of_an_outsider_is_refused_and_touches_nobody(
    nats_bus: NatsBus, client: Client
) -> None:
    inbox = Inbox()
    own = nats_bus.subjects.mail("in", MALLORY)
    await nats_bus.mail.post("in", ALICE, b"1")
    await nats_bus.mail.post("in", MALLORY, b"2")
    attempts = [
        {"Nats_Rollup": "all"},
        {"Nats_Rollup": "sub"},
        {"Nats_Schedule": "@at 2020-01-01T00:00:00Z", "Nats_Schedule_Target": nats_bus.subjects.mail("in", ALICE)},
        {"Nats_Scheduler": "rg.a.tm.b", "Nats_Schedule_Next": "purge"},
        {"Nats_TTL": "1s"},
    ]
    for headers in attempts:
        await outsider(client, own, b"3", **headers)
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        await nats_bus.mail.post("in", ALICE, b"end")
        await nats_bus.mail.post("in", MALLORY, b"end")
        got: list[Delivery] = []
        while bodies(got).count(b"end") < 2:
            got += await take(inbox)
    assert [each.body for each in got if each.address == ALICE] == [b"1", b"end"]
    assert next(each.body for each in got if each.address == MALLORY) == b"2"


async def test_a_guessed_message_id_on_the_outside_swallows_nobodys_mail(nats_bus: NatsBus, client: Client) -> None:
    inbox = Inbox()
    for guess in ("e.1.0", "7"):
        await outsider(client, nats_bus.subjects.mail("in", MALLORY), b"guess", Nats_Msg_Id=guess)
    await nats_bus.mail.post("act", ALICE, b"relay", message_id="e.1.0")
    await nats_bus.mail.post("in", ALICE, b"ask", {"Rg-Id": "7"})
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        got = await take(inbox, 4)
    assert {each.body for each in got if each.address == ALICE} == {b"relay", b"ask"}


async def test_a_message_id_of_an_outsider_swallows_other_outsiders_mail_for_a_moment_only(
    nats_bus: NatsBus, client: Client
) -> None:
    first = await outsider(client, nats_bus.subjects.mail("in", MALLORY), b"guess", Nats_Msg_Id="7")
    async with asyncio.timeout(WAIT_S):
        while (await outsider(client, nats_bus.subjects.mail("in", ALICE), b"ask", Nats_Msg_Id="7")).get("duplicate"):
            pass
    inbox = Inbox()
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        got = await take(inbox, 2)
    assert first["seq"] == 1
    assert {each.address: each.body for each in got} == {MALLORY: b"guess", ALICE: b"ask"}


async def test_an_outsider_is_told_that_one_actors_mailbox_is_full_while_others_take_mail(
    nats_bus: NatsBus, client: Client
) -> None:
    await asyncio.gather(*(nats_bus.mail.post("in", ALICE, b"") for _ in range(MAILBOX_MESSAGES_MAX)))
    refusal = await outsider(client, nats_bus.subjects.mail("in", ALICE))
    assert refusal["error"]["err_code"] == 10077
    assert "error" not in await outsider(client, nats_bus.subjects.mail("in", MALLORY))


async def test_an_outsider_who_names_what_was_put_aside_for_another_gets_nothing(
    nats_bus: NatsBus, client: Client
) -> None:
    inbox = Inbox()
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        await nats_bus.mail.post("in", ALICE, bytes(client.max_payload + 1))
        (hers,) = await take(inbox)
        await outsider(client, nats_bus.subjects.mail("in", MALLORY), Rg_Blob=hers.headers[names.BLOB])
        (his,) = await take(inbox)
        assert await his.fetch()
        assert his.body == b""
        await his.ack()
        assert await hers.fetch()
        assert len(hers.body) == client.max_payload + 1


async def test_mail_that_looks_like_a_status_of_the_server_is_mail(nats_bus: NatsBus, client: Client) -> None:
    inbox = Inbox()
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        for code, description in (("409", "Consumer Deleted"), ("503", ""), ("100", "Idle Heartbeat"), ("x", "")):
            subject = nats_bus.subjects.mail("in", ALICE)
            await outsider(client, subject, Status=code, Description=description or "-")
            (delivery,) = await take(inbox)
            assert (delivery.body, delivery.headers["Status"]) == (b"", code)
        await nats_bus.mail.post("in", ALICE, b"next")
        assert bodies(await take(inbox)) == [b"next"]


async def test_mail_for_no_actor_goes_to_the_dead_letters_and_stops_nobody(nats_bus: NatsBus, client: Client) -> None:
    inbox = Inbox()
    app = nats_bus.subjects.app
    bad = ["counter.=zz", "counter.=", "a$b.c", "counter.a=2e", "counter." + "x" * 600, "ä.b"]
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        for _ in range(2 * PULL_BATCH // len(bad)):
            for tail in bad:
                await client.publish(f"rg.{app}.in.{tail}", b"garbage")
        for number in range(SHARDS * 5):
            await nats_bus.mail.post("in", Address("k", f"{number}"), b"")
        await take(inbox, SHARDS * 5)
        async with asyncio.timeout(WAIT_S):
            while (await call(client, f"STREAM.INFO.RG_{app}_IN"))["state"]["messages"] != SHARDS * 5:
                pass
        assert inbox.empty()
    dead = await call(client, f"STREAM.INFO.RG_{app}_DLQ", {"subjects_filter": ">"})
    assert dead["state"]["subjects"] == {f"rg.{app}.dlq.{tail}": 2 * PULL_BATCH // len(bad) for tail in bad}


# Consumers


async def test_a_service_has_two_consumers_for_each_shard_and_none_after_its_end(
    nats_bus: NatsBus, client: Client
) -> None:
    async with nats_bus.mail.serve(Inbox().put_nowait, unexpected) as holding:
        first = await consumers(client, nats_bus)
        await holding.take_over()
        second = await consumers(client, nats_bus)
        for names in (first, second):
            assert sorted(parse_name(name)[0] for name in names) == sorted([*range(SHARDS), *range(SHARDS)])
        assert not set(first) & set(second)
        assert min(parse_name(name)[1] for name in second) > max(parse_name(name)[1] for name in first)
    assert await consumers(client, nats_bus) == []


async def test_consumers_that_somebody_deleted_come_back(nats_bus: NatsBus, client: Client) -> None:
    inbox = Inbox()
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        for number in range(100):
            await nats_bus.mail.post("in", Address("k", f"{number}"), b"before")
        before = await take(inbox, 100)
        for box in BOXES:
            stream = nats_bus.subjects.mail_stream(box)
            for name in (await call(client, f"CONSUMER.NAMES.{stream}"))["consumers"]:
                # Some have been replaced already when it is their turn.
                await client.request(f"$JS.API.CONSUMER.DELETE.{stream}.{name}", timeout=WAIT_S)
        for number in range(100):
            await nats_bus.mail.post("act", Address("k", f"{number}"), b"after")
        assert bodies(await take(inbox, 100)) == [b"after"] * 100
        for delivery in before:
            await delivery.ack()
        async with asyncio.timeout(WAIT_S):
            while (await call(client, f"STREAM.INFO.{nats_bus.subjects.mail_stream('in')}"))["state"]["messages"]:
                pass
    assert inbox.empty()


@pytest.mark.parametrize("bound", ["ACKS_HELD_MAX", "ACKS_HELD_OF_ONE_MAX"])
async def test_acknowledgements_that_are_held_leave_at_once_when_they_are_many(
    nats_bus: NatsBus, client: Client, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Neither in memory nor in a mailbox, whose limit they count against, do they pile up; time plays no part here."""
    for name in ("ACK_QUIET_S", "ACK_HOLD_S"):
        monkeypatch.setattr(f"regrow.bus.desk.{name}", 3_600.0)
    monkeypatch.setattr(f"regrow.bus.desk.{bound}", 5)
    inbox = Inbox()
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        for _ in range(5):
            await nats_bus.mail.post("in", ALICE, b"")
        for delivery in await take(inbox, 5):
            await delivery.ack()
        async with asyncio.timeout(WAIT_S):
            while (await call(client, f"STREAM.INFO.{nats_bus.subjects.mail_stream('in')}"))["state"]["messages"]:
                pass


async def test_a_consumer_that_is_gone_when_it_is_pulled_comes_back(
    nats_bus: NatsBus, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two pull requests nobody hears of its end: the next one finds no responder."""
    monkeypatch.setattr(consumer, "PULL_BATCH", 128)  # three of them, delivered twice, are less than a mailbox holds
    inbox = Inbox()
    shard = shard_of(ALICE)
    stream = nats_bus.subjects.mail_stream("in")
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        for _ in range(3):
            names: list[str] = []
            while not names:
                found = (await call(client, f"CONSUMER.NAMES.{stream}"))["consumers"]
                names = [each for each in found if parse_name(each)[0] == shard]
            posts = (nats_bus.mail.post("in", ALICE, b"") for _ in range(128))
            delete = call(client, f"CONSUMER.DELETE.{stream}.{names[0]}")
            await asyncio.gather(*posts, delete)
            for delivery in await take(inbox, 128):
                await delivery.ack()
    assert inbox.empty() or inbox.get_nowait().address == ALICE


async def test_a_consumer_of_another_maker_on_a_shard_is_named(nats_bus: NatsBus, client: Client) -> None:
    stream = nats_bus.subjects.mail_stream("act")
    subject = nats_bus.subjects.stored("act", 5)
    config = {"durable_name": "mine", "name": "mine", "ack_policy": "explicit", "filter_subject": subject}
    await call(client, f"CONSUMER.CREATE.{stream}.mine.{subject}", {"stream_name": stream, "config": config})
    with pytest.raises(StoreUnavailable, match=r"aq\.5\.> that regrow did not make"):
        async with nats_bus.mail.serve(Inbox().put_nowait, unexpected):
            pass


# The end of a service


async def test_a_connection_that_is_closed_for_good_ends_the_service(nats_server: EmbeddedServer, app: str) -> None:
    client = await nats.connect(nats_server.url)
    async with open_bus(client, app, create=True) as bus:
        with pytest.raises(Unreachable):
            async with bus.mail.serve(Inbox().put_nowait, unexpected) as holding:
                await client.close()
                with pytest.raises(Unreachable):
                    await holding.take_over()
                await asyncio.wait_for(asyncio.Event().wait(), WAIT_S)


@pytest.mark.parametrize("how", ["receive", "lost"])
async def test_an_error_of_the_hosts_callbacks_ends_the_service_loudly(nats_bus: NatsBus, how: str) -> None:
    error = KeyError(how)

    def fail(_: object) -> None:
        raise error

    def ignore(_: object) -> None:
        return

    with pytest.raises(KeyError) as raised:
        async with nats_bus.mail.serve(fail if how == "receive" else ignore, fail if how == "lost" else ignore):
            if how == "receive":
                await nats_bus.mail.post("in", ALICE, b"")
            else:
                async with nats_bus.mail.serve(ignore, ignore):
                    pass
            await asyncio.wait_for(asyncio.Event().wait(), WAIT_S)
    assert raised.value is error


async def test_a_service_that_is_cancelled_leaves_its_mail_to_the_next(nats_bus: NatsBus) -> None:
    serving = asyncio.Event()

    async def serve() -> None:
        async with nats_bus.mail.serve(Inbox().put_nowait, unexpected):
            serving.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(serve())
    await serving.wait()
    await nats_bus.mail.post("in", ALICE, b"1")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    inbox = Inbox()
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        assert bodies(await take(inbox)) == [b"1"]


async def test_a_message_id_counts_against_the_payload_limit(nats_bus: NatsBus, client: Client) -> None:
    inbox = Inbox()
    await nats_bus.mail.post("act", ALICE, bytes(client.max_payload), message_id="e.1.0")
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        assert names.BLOB in (await take(inbox))[0].headers
        assert await nats_bus.mail.post("act", ALICE, b"", message_id="e.1.0") == 1


async def test_a_repetition_of_a_large_message_that_was_taken_leaves_nothing_behind(
    nats_bus: NatsBus, client: Client
) -> None:
    inbox = Inbox()
    body = bytes(client.max_payload)
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        await nats_bus.mail.post("act", ALICE, body, message_id="e.1.0")
        (delivery,) = await take(inbox)
        await nats_bus.mail.post("act", ALICE, body, message_id="e.1.0")
        assert await delivery.fetch()
        assert delivery.body == body
        await delivery.ack()
        await nats_bus.mail.post("act", ALICE, body, message_id="e.1.0")
    objects = await call(client, f"STREAM.INFO.OBJ_{nats_bus.subjects.claim_bucket}")
    assert objects["state"]["messages"] == 0


# Claims


async def test_a_claim_is_granted_after_ones_own_last_claim_only(nats_bus: NatsBus, client: Client) -> None:
    async with ReplyInbox(client) as replies:
        mine, theirs = (Shards(replies, JetStreamApi(replies), nats_bus.subjects) for _ in range(2))
        first = await mine.claim(3)
        second = await mine.claim(3, first)
        assert first is not None
        assert second is not None
        assert second > first
        # As if the second claim's acknowledgement had been lost.
        assert await mine.claim(3, first) == second
        third = await theirs.claim(3)
        assert await mine.claim(3, second) is None
        assert await theirs.claim(3, third) is not None


async def test_a_consumer_of_a_later_claim_is_not_replaced(nats_bus: NatsBus, client: Client) -> None:
    async with ReplyInbox(client) as replies:
        shards = Shards(replies, JetStreamApi(replies), nats_bus.subjects)
        assert await shards.create(Consumer("in", 3, 17))
        assert not await shards.create(Consumer("in", 3, 16))
        assert await shards.clear("in", {3: 16}) == (0, {3})
        assert await shards.create(Consumer("in", 3, 18))
        assert await shards.clear("in", {3: 18, 4: 99}) == (0, set())


async def test_a_shard_that_a_later_claim_serves_is_lost_once_and_the_others_are_served(
    nats_bus: NatsBus, client: Client
) -> None:
    inbox = Inbox()
    lost: list[int] = []
    async with ReplyInbox(client) as replies:
        shards = Shards(replies, JetStreamApi(replies), nats_bus.subjects)
        for box in BOXES:
            assert await shards.create(Consumer(box, shard_of(ALICE), 1_000_000))
    neighbour = next(each for each in random_addresses(100) if shard_of(each) != shard_of(ALICE))
    async with nats_bus.mail.serve(inbox.put_nowait, lost.append):
        assert lost == [shard_of(ALICE)]
        await nats_bus.mail.post("in", ALICE, b"not ours")
        await nats_bus.mail.post("in", neighbour, b"ours")
        assert bodies(await take(inbox)) == [b"ours"]
