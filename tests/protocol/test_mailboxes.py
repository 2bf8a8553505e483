"""Holes of the mailboxes: C1, C2, C4, C6, H6. What the server itself says, for other clients see only that."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from regrow.bus import Address, Delivery, MailboxFull, NatsBus, StoreUnavailable, open_bus
from regrow.bus.api import CONSUMER_NOT_UNIQUE, LIMIT_REACHED, JetStreamApi
from regrow.bus.consumer import Consumer, parse_name
from regrow.bus.replies import ReplyInbox
from regrow.bus.shards import Shards
from regrow.bus.subjects import BOXES, SHARDS, Box, shard_of

pytestmark = pytest.mark.asyncio

ALICE = Address("counter", "alice")
MALLORY = Address("counter", "mallory")
WAIT_S = 20.0
YEAR_NS = 365 * 24 * 3600 * 1_000_000_000
NO_ROLLUP, NO_SCHEDULES, NO_EXPIRY, NO_COUNTERS, NO_BATCHES = 10111, 10188, 10166, 10168, 10174
NOT_TOGETHER = 10052

Inbox = asyncio.Queue[Delivery]


async def ask(client: Client, subject: str, body: object = b"", **headers: str) -> dict[str, Any]:
    """The server's answer to what anybody sends; in header names an underscore stands for a hyphen."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await client.request(subject, data, timeout=WAIT_S, headers=given or None)
    fields: dict[str, Any] = json.loads(answer.data)
    return fields


def code(answer: dict[str, Any]) -> int | None:
    """The error's number, None where the server agreed."""
    number: int | None = answer.get("error", {}).get("err_code")
    return number


async def config_of(client: Client, stream: str) -> dict[str, Any]:
    config: dict[str, Any] = (await ask(client, f"$JS.API.STREAM.INFO.{stream}"))["config"]
    return config


async def change(client: Client, stream: str, **settings: object) -> dict[str, Any]:
    """The server's answer to an operator who changes a stream."""
    return await ask(client, f"$JS.API.STREAM.UPDATE.{stream}", {**await config_of(client, stream), **settings})


async def messages(client: Client, stream: str) -> int:
    count: int = (await ask(client, f"$JS.API.STREAM.INFO.{stream}"))["state"]["messages"]
    return count


async def consumer_names(client: Client, stream: str) -> list[str]:
    return (await ask(client, f"$JS.API.CONSUMER.NAMES.{stream}"))["consumers"] or []


async def take(inbox: Inbox, count: int = 1) -> list[Delivery]:
    async with asyncio.timeout(WAIT_S):
        return [await inbox.get() for _ in range(count)]


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [each.body for each in deliveries]


def unexpected(shard: int) -> None:
    raise AssertionError(f"shard {shard} was lost")


def ignore(_: object) -> None:
    return


# C1: whoever may write to his own mailbox can touch nobody else's


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({"Nats_Rollup": "all"}, NO_ROLLUP),
        ({"Nats_Rollup": "sub"}, NO_ROLLUP),
        ({"Nats_Schedule": "@at 2020-01-01T00:00:00Z", "Nats_Schedule_Target": "{victim}"}, NO_SCHEDULES),
        ({"Nats_Schedule": "@every 1s"}, NO_SCHEDULES),
        ({"Nats_Scheduler": "{timer}", "Nats_Schedule_Next": "purge"}, NO_SCHEDULES),
        ({"Nats_TTL": "1s"}, NO_EXPIRY),
        ({"Nats_Incr": "1"}, NO_COUNTERS),
        ({"Nats_Batch_Id": "b", "Nats_Batch_Sequence": "1"}, NO_BATCHES),
    ],
)
async def test_the_outside_mailbox_refuses_an_order_to_the_server_and_keeps_all_mail(
    nats_bus: NatsBus, client: Client, headers: dict[str, str], refusal: int
) -> None:
    names = {
        "victim": nats_bus.subjects.mail("in", ALICE),
        "timer": nats_bus.subjects.timer(ALICE, "1-0"),
    }
    await nats_bus.mail.post("in", ALICE, b"1")
    await nats_bus.mail.post("in", MALLORY, b"2")
    given = {name: value.format_map(names) for name, value in headers.items()}
    assert code(await ask(client, nats_bus.subjects.mail("in", MALLORY), b"3", **given)) == refusal
    assert await messages(client, nats_bus.subjects.mail_stream("in")) == 2


@pytest.mark.parametrize("setting", ["allow_msg_schedules", "allow_rollup_hdrs"])
async def test_a_mailbox_that_would_obey_its_writers_is_not_served(
    nats_bus: NatsBus, client: Client, setting: str
) -> None:
    stream = nats_bus.subjects.mail_stream("in")
    changed = await change(client, stream, **{setting: True})
    if setting == "allow_msg_schedules":
        assert code(changed) == NOT_TOGETHER  # with `discard: new`, which is what pushes back
        return
    with pytest.raises(StoreUnavailable, match=f"{stream} was made with another {setting}"):
        async with open_bus(client, nats_bus.subjects.app):
            pass


async def test_schedules_live_in_the_runtimes_own_mailbox_and_spare_the_mail_beside_them(
    nats_bus: NatsBus, client: Client
) -> None:
    act = nats_bus.subjects.mail("act", ALICE)
    inbox = Inbox()
    await nats_bus.mail.post("act", ALICE, b"before")
    at = (datetime.now(UTC) + timedelta(milliseconds=200)).isoformat().replace("+00:00", "Z")
    timer = nats_bus.subjects.timer(ALICE, "1-0")
    set_up = await ask(client, timer, b"tick", Nats_Schedule=f"@at {at}", Nats_Schedule_Target=act)
    assert code(set_up) is None
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        got = await take(inbox, 2)
    assert bodies(got) == [b"before", b"tick"]
    assert all(each.address == ALICE and each.box == "act" for each in got)


# C2: what is full says so, to whoever speaks NATS


async def test_a_full_mailbox_refuses_by_number_and_takes_the_same_message_later(
    nats_bus: NatsBus, client: Client
) -> None:
    """In the window of the id as well: a message that was refused is not remembered as one that came."""
    stream, own = nats_bus.subjects.mail_stream("in"), nats_bus.subjects.mail("in", ALICE)
    assert code(await change(client, stream, max_msgs_per_subject=2, duplicate_window=60 * 1_000_000_000)) is None
    for number in range(2):
        assert code(await ask(client, own, b"%d" % number)) is None
    assert code(await ask(client, own, b"2", Nats_Msg_Id="m")) == LIMIT_REACHED
    with pytest.raises(MailboxFull):
        await nats_bus.mail.post("in", ALICE, b"3")
    assert code(await ask(client, nats_bus.subjects.mail("in", MALLORY), b"other")) is None
    inbox = Inbox()
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        for each in await take(inbox, 3):
            await each.ack()
        async with asyncio.timeout(WAIT_S):
            while await messages(client, stream):
                pass
        again = await ask(client, own, b"2", Nats_Msg_Id="m")
        assert code(again) is None
        assert not again.get("duplicate")
        assert bodies(await take(inbox)) == [b"2"]


async def test_a_mailbox_without_room_for_the_bytes_refuses_too(nats_bus: NatsBus, client: Client) -> None:
    stream = nats_bus.subjects.mail_stream("in")
    await change(client, stream, max_bytes=100_000)
    await nats_bus.mail.post("in", ALICE, bytes(60_000))
    with pytest.raises(MailboxFull):
        await nats_bus.mail.post("in", MALLORY, bytes(60_000))
    await change(client, stream, max_bytes=1_000_000)
    await nats_bus.mail.post("in", MALLORY, bytes(60_000))
    assert await messages(client, stream) == 2


async def test_the_runtimes_mailbox_has_no_limit_that_could_drop_what_was_accepted(
    nats_bus: NatsBus, client: Client
) -> None:
    config = await config_of(client, nats_bus.subjects.mail_stream("act"))
    assert [config[name] for name in ("max_msgs", "max_bytes", "max_msgs_per_subject", "max_age")] == [-1, -1, -1, 0]


# C4: a message comes again by takeover alone, in order


async def test_the_server_never_redelivers_within_a_consumer_of_ours(nats_bus: NatsBus, client: Client) -> None:
    async with nats_bus.mail.serve(ignore, unexpected):
        for box in BOXES:
            stream = nats_bus.subjects.mail_stream(box)
            names = await consumer_names(client, stream)
            assert len(names) == SHARDS
            for name in names:
                config = (await ask(client, f"$JS.API.CONSUMER.INFO.{stream}.{name}"))["config"]
                assert (config["ack_policy"], config["max_deliver"], config["max_ack_pending"]) == ("explicit", -1, -1)
                assert config["ack_wait"] == YEAR_NS
                assert "backoff" not in config
                assert not config.get("inactive_threshold")


async def test_nothing_of_ours_gives_a_message_back(nats_bus: NatsBus, app: str, watcher: Client) -> None:
    """Through two takeovers and the end of both services, every word to the server about a message is an acknowledgement."""
    said: list[bytes] = []

    async def listen(message: Msg) -> None:
        if f".RG_{app}_" in message.subject:
            said.append(message.data)

    await watcher.subscribe("$JS.ACK.>", cb=listen)
    await watcher.flush()
    first, second = Inbox(), Inbox()
    async with nats_bus.mail.serve(first.put_nowait, ignore):
        for number in range(40):
            await nats_bus.mail.post(BOXES[number % 2], Address("k", f"{number}"), b"%d" % number)
        for each in (await take(first, 40))[::2]:
            await each.ack()
        async with nats_bus.mail.serve(second.put_nowait, unexpected):
            for each in (await take(second, 20))[::2]:
                await each.ack()
    async with asyncio.timeout(WAIT_S):
        while len(said) < 30:
            await watcher.flush()
    assert said == [b"+ACK"] * 30


async def test_a_new_name_brings_order_back_where_one_consumer_has_lost_it(nats_bus: NatsBus, client: Client) -> None:
    """What the server does, and why nothing here may rely on its redelivery."""
    stream, shard = nats_bus.subjects.mail_stream("in"), shard_of(ALICE)
    subject = nats_bus.subjects.stored("in", shard)
    js = client.jetstream()
    for number in range(1, 6):
        await nats_bus.mail.post("in", ALICE, b"%d" % number)

    async def pull(name: str, count: int) -> list[Msg]:
        config = {"name": name, "durable_name": name, "filter_subject": subject, "ack_policy": "explicit"}
        body = {"stream_name": stream, "config": config, "action": "create"}
        assert code(await ask(client, f"$JS.API.CONSUMER.CREATE.{stream}.{name}.{subject}", body)) is None
        puller = await js.pull_subscribe_bind(name, stream)
        return await puller.fetch(count, timeout=WAIT_S)

    got = await pull("one", 3)
    await got[0].nak()
    puller = await js.pull_subscribe_bind("one", stream)
    rest: list[bytes] = []
    while len(rest) < 3:
        rest += [each.data for each in await puller.fetch(3 - len(rest), timeout=WAIT_S)]
    assert sorted(rest) == [b"1", b"4", b"5"]
    assert code(await ask(client, f"$JS.API.CONSUMER.DELETE.{stream}.one")) is None
    assert [each.data for each in await pull("two", 5)] == [b"1", b"2", b"3", b"4", b"5"]


# C6: ids


async def test_an_id_counts_in_one_mailbox_only(nats_bus: NatsBus, client: Client) -> None:
    """So what an outsider guesses of a relay's id, in a mailbox where ids count as long as there, swallows nothing."""
    await change(client, nats_bus.subjects.mail_stream("in"), duplicate_window=60 * 1_000_000_000)
    relay = f"{nats_bus.epoch}.5.17.0"
    guess = await ask(client, nats_bus.subjects.mail("in", MALLORY), b"guess", Nats_Msg_Id=relay)
    assert code(guess) is None
    first = await nats_bus.mail.post("act", ALICE, b"relay", message_id=relay)
    assert await nats_bus.mail.post("act", ALICE, b"relay", message_id=relay) == first
    assert await messages(client, nats_bus.subjects.mail_stream("act")) == 1


async def test_an_epoch_is_nothing_that_can_be_guessed(client: Client, app: str) -> None:
    seen: set[str] = set()
    for number in range(3):
        async with open_bus(client, f"{app}-{number}", create=True) as bus:
            assert len(bytes.fromhex(bus.epoch)) >= 6
            seen.add(bus.epoch)
    assert len(seen) == 3


# H6: two that both believe they own a shard


async def test_of_two_consumers_with_names_of_their_own_one_is_made(nats_bus: NatsBus, client: Client) -> None:
    stream, subject = nats_bus.subjects.mail_stream("act"), nats_bus.subjects.stored("act", 3)

    async def create(consumer: Consumer) -> dict[str, Any]:
        body = {"stream_name": stream, "config": consumer.config(subject, in_memory=True), "action": "create"}
        return await ask(client, f"$JS.API.CONSUMER.CREATE.{stream}.{consumer.name}.{subject}", body)

    for _ in range(20):
        racers = [Consumer("act", 3, epoch) for epoch in (7, 7, 8)]
        answers = await asyncio.gather(*(create(each) for each in racers))
        assert sorted(str(code(each)) for each in answers) == sorted(["None", *[str(CONSUMER_NOT_UNIQUE)] * 2])
        (made,) = await consumer_names(client, stream)
        await ask(client, f"$JS.API.CONSUMER.DELETE.{stream}.{made}")


async def test_of_two_claims_at_once_the_later_one_has_the_consumer(nats_bus: NatsBus, client: Client) -> None:
    async with ReplyInbox(client) as replies:
        nodes = [Shards(replies, JetStreamApi(replies), nats_bus.subjects) for _ in range(2)]

        async def win(node: Shards, box: Box, epoch: int) -> bool:
            await node.clear(box, {5: epoch})
            return await node.create(Consumer(box, 5, epoch))

        for _ in range(10):
            epochs = [await node.claim(5) for node in nodes]
            assert epochs[0] is not None
            assert epochs[1] is not None
            assert epochs[0] < epochs[1]
            for box in BOXES:
                await asyncio.gather(
                    *(win(node, box, epoch) for node, epoch in zip(nodes, epochs, strict=True) if epoch)
                )
                (name,) = await consumer_names(client, nats_bus.subjects.mail_stream(box))
                assert parse_name(name) == (5, epochs[1])


async def test_an_acknowledgement_to_a_consumer_that_is_gone_reaches_nobody(
    nats_bus: NatsBus, client: Client, watcher: Client
) -> None:
    """Not the next consumer's messages; and whoever asks for an answer to it learns that there is none to give."""
    stream = nats_bus.subjects.mail_stream("in")
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def listen(message: Msg) -> None:
        seen.put_nowait(message.subject)

    listening = await watcher.subscribe(f"$JS.ACK.{stream}.>", cb=listen)
    await watcher.flush()
    first, second = Inbox(), Inbox()
    async with nats_bus.mail.serve(first.put_nowait, ignore):
        for body in (b"1", b"2"):
            await nats_bus.mail.post("in", ALICE, body)
        old = (await take(first, 2))[0]
        async with nats_bus.mail.serve(second.put_nowait, unexpected):
            assert bodies(await take(second, 2)) == [b"1", b"2"]
            await old.ack()
            subject = await asyncio.wait_for(seen.get(), WAIT_S)
            assert await messages(client, stream) == 2
            await listening.unsubscribe()  # it would count as somebody who might answer
            await watcher.flush()
            with pytest.raises(NoRespondersError):
                await client.request(subject, b"+ACK", timeout=WAIT_S)
            assert await messages(client, stream) == 2
