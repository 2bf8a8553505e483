"""Traps of the server and of its client library: what each does, and that the bus is not caught in it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus import Address, Delivery, EmbeddedServer, NatsBus, Request, StaleWriter, encode
from regrow.bus.headers import ID, ROLLUP
from regrow.bus.subjects import BOXES, LOG_STREAMS, SHARDS

pytestmark = pytest.mark.asyncio

ALICE = Address("counter", "alice")
WAIT_S = 20.0

Inbox = asyncio.Queue[Delivery]


def record(rid: str) -> bytes:
    return encode({"rid": rid})


async def ask(client: Client, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The server's answer to what anybody sends."""
    answer = await client.request(subject, body, timeout=WAIT_S, headers=headers)
    fields: dict[str, Any] = json.loads(answer.data)
    return fields


async def take(inbox: Inbox, count: int = 1) -> list[Delivery]:
    async with asyncio.timeout(WAIT_S):
        return [await inbox.get() for _ in range(count)]


def unexpected(shard: int) -> None:
    raise AssertionError(f"shard {shard} was lost")


@asynccontextmanager
async def heard(client: Client, subject: str) -> AsyncGenerator[asyncio.Queue[Msg]]:
    """What a core subscriber hears; the block begins once the server knows of it."""
    messages: asyncio.Queue[Msg] = asyncio.Queue()
    subscription = await client.subscribe(subject, cb=messages.put)
    await client.flush()
    yield messages
    await subscription.unsubscribe()


# 1: a publish that the stream rejects


async def test_a_refused_append_is_heard_on_the_logs_subject_and_never_live(nats_bus: NatsBus, watcher: Client) -> None:
    async with (
        heard(watcher, nats_bus.subjects.log(ALICE)) as sent,
        heard(watcher, nats_bus.subjects.live(ALICE)) as live,
    ):
        last = await nats_bus.log.append(ALICE, record("1"), rid="1", after=0)
        with pytest.raises(StaleWriter):
            await nats_bus.log.append(ALICE, record("refused"), rid="refused", after=0)
        end = await nats_bus.log.append(ALICE, record("2"), rid="2", after=last, rollup=True)
        async with asyncio.timeout(WAIT_S):
            assert [(await sent.get()).data for _ in range(3)] == [record("1"), record("refused"), record("2")]
            tail = [await live.get() for _ in range(2)]
    assert [each.data for each in tail] == [record("1"), record("2")]
    assert [int((each.headers or {})["Nats-Sequence"]) for each in tail] == [last, end]
    assert ROLLUP in (tail[1].headers or {})
    assert live.empty()


# 3: one handler at a time


async def test_a_served_subject_hears_the_next_request_while_the_last_one_is_unanswered(nats_bus: NatsBus) -> None:
    """Else an actor that asks back while it is asked would wait for itself."""
    asked: asyncio.Queue[Request] = asyncio.Queue()
    async with (
        nats_bus.serve("traps.echo", asked.put_nowait),
        asyncio.timeout(WAIT_S),
        asyncio.TaskGroup() as tasks,
    ):
        answers = [tasks.create_task(nats_bus.request("traps.echo", b"%d" % n, timeout_s=WAIT_S)) for n in range(3)]
        requests = [await asked.get() for _ in answers]
        for request in reversed(requests):
            await nats_bus.publish(request.reply, request.body)
    assert [each.result().body for each in answers] == [b"0", b"1", b"2"]


# 6: many consumers


async def test_actors_cost_no_consumers(nats_bus: NatsBus, client: Client) -> None:
    inbox = Inbox()
    addresses = [Address("k", f"{number}") for number in range(500)]
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        for address in addresses:
            await nats_bus.mail.post("in", address, b"")
        await take(inbox, len(addresses))
        await asyncio.gather(*(nats_bus.log.append(each, record("1"), rid="1", after=0) for each in addresses))
        await asyncio.gather(*(nats_bus.log.read(each) for each in addresses[::10]))
        for box in BOXES:
            info = await ask(client, f"$JS.API.STREAM.INFO.{nats_bus.subjects.mail_stream(box)}")
            assert info["state"]["consumer_count"] == SHARDS
        for number in range(LOG_STREAMS):
            info = await ask(client, f"$JS.API.STREAM.INFO.{nats_bus.subjects.log_stream(number)}")
            assert info["state"]["consumer_count"] == 0


# 8: where a schedule fires


async def test_a_timer_that_fires_is_mail_and_nothing_that_a_listener_hears(
    nats_bus: NatsBus, client: Client, watcher: Client
) -> None:
    inbox = Inbox()
    act = nats_bus.subjects.mail("act", ALICE)
    at = (datetime.now(UTC) + timedelta(milliseconds=100)).isoformat().replace("+00:00", "Z")
    orders = {"Nats-Schedule": f"@at {at}", "Nats-Schedule-Target": act}
    async with heard(watcher, act) as listener, nats_bus.mail.serve(inbox.put_nowait, unexpected):
        assert "error" not in await ask(client, nats_bus.subjects.timer(ALICE, "1-0"), b"tick", orders)
        (tick,) = await take(inbox)
        assert (tick.box, tick.address, tick.body) == ("act", ALICE, b"tick")
        await nats_bus.mail.post("act", ALICE, b"end")
        assert (await asyncio.wait_for(listener.get(), WAIT_S)).data == b"end"


# 9: headers


async def test_headers_of_any_client_are_read_as_they_are_spelt(nats_server: EmbeddedServer, nats_bus: NatsBus) -> None:
    """Of a name that came twice one value counts; a name in another case is another header, not ours."""
    inbox = Inbox()
    head = f"NATS/1.0\r\n{ID}:  7 \r\n{ID.lower()}: 8\r\nX: a\r\nX: b\r\n\r\n".encode()
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        reader, writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
        writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
        own = nats_bus.subjects.mail("in", ALICE)
        writer.write(f"HPUB {own} {len(head)} {len(head) + 1}\r\n".encode() + head + b"!\r\nPING\r\n")
        await reader.readuntil(b"PONG\r\n")
        (mail,) = await take(inbox)
        writer.close()
        await writer.wait_closed()
    assert mail.body == b"!"
    assert mail.headers[ID] == "7"
    assert mail.headers[ID.lower()] == "8"
    assert mail.headers["X"] in ("a", "b")


@pytest.mark.parametrize("value", ["k/a\r\nNats-Rollup: all", "a\nNats-Rollup: all"])
async def test_a_line_break_in_a_headers_value_is_no_order_to_the_server(
    nats_bus: NatsBus, client: Client, value: str
) -> None:
    """The runtime's own mailbox would obey it, and lose everything."""
    for number in range(3):
        await nats_bus.mail.post("act", Address("k", f"{number}"), b"")
    await nats_bus.mail.post("act", ALICE, b"", {"Rg-Note": value})
    info = await ask(client, f"$JS.API.STREAM.INFO.{nats_bus.subjects.mail_stream('act')}")
    assert info["state"]["messages"] == 4


# 12: a mailbox nobody takes from


async def test_a_thousand_messages_that_wait_leave_the_runtimes_mailbox_open_to_their_own_actor(
    nats_bus: NatsBus,
) -> None:
    """An answer that an actor waits for never stands behind the mail that it does not take meanwhile."""
    inbox = Inbox()
    async with nats_bus.mail.serve(inbox.put_nowait, unexpected):
        await asyncio.gather(*(nats_bus.mail.post("in", ALICE, b"later") for _ in range(1_000)))
        await take(inbox, 1_000)
        await nats_bus.mail.post("act", ALICE, b"the answer")
        assert [each.body for each in await take(inbox)] == [b"the answer"]
