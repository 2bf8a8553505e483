"""What a caller sees while the server is gone, full, or does not wait for a slow reader; and that all goes on afterwards."""

import asyncio
import gc
import json
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from regrow.bus import (
    Address,
    BusError,
    Delivery,
    EmbeddedServer,
    NatsBus,
    NoResponder,
    RequestTimeout,
    StoreFull,
    Unreachable,
    encode,
    log,
    open_bus,
)
from regrow.bus.subjects import log_number

pytestmark = [
    pytest.mark.asyncio,
    # nats-py forgets the stream of a handshake that failed, and the collector finds it.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

ALICE = Address("counter", "alice")
BOB = next(each for each in (Address("k", f"{n}") for n in range(99)) if log_number(each) != log_number(ALICE))
WAIT_S = 30.0
MEGABYTE = 1 << 20

Inbox = asyncio.Queue[Delivery]


@pytest.fixture(autouse=True)
def forgotten_streams() -> Iterator[None]:
    """Collects in this module what was forgotten in it."""
    yield
    gc.collect()


class Narrow(EmbeddedServer):
    """A server that cuts whoever lets more than a megabyte wait for it."""

    def _configure(self) -> Path:
        config = super()._configure()
        config.write_text(f"{config.read_text()}\nmax_pending: {MEGABYTE}\n")
        return config

    def cut(self) -> bool:
        return "Slow Consumer" in (self.store / "server.log").read_text()


class Reader:
    """A TCP proxy that stops reading what the server sends, until it is told to go on; or holds back what a node says."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.answers, self.questions = asyncio.Event(), asyncio.Event()
        self.answers.set()
        self.questions.set()
        self._target = port
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            self.answers.set()
            self.questions.set()
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.gather(*self._pumps)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, there]
        await asyncio.gather(self._pump(reader, there, self.questions), self._pump(there_reader, writer, self.answers))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
        try:
            while data := await reader.read(65536):
                await flowing.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.transport.abort()


def record(rid: str, pad: int = 0) -> bytes:
    return encode({"rid": rid, "pad": "x" * pad})


async def ask(client: Client, verb: str, body: object = None) -> dict[str, Any]:
    answer = await client.request(f"$JS.API.{verb}", json.dumps(body or {}).encode(), timeout=WAIT_S)
    fields: dict[str, Any] = json.loads(answer.data)
    assert "error" not in fields, fields
    return fields


async def change(client: Client, stream: str, **settings: object) -> None:
    """Changes settings of a stream as an operator would."""
    config = (await ask(client, f"STREAM.INFO.{stream}"))["config"]
    await ask(client, f"STREAM.UPDATE.{stream}", {**config, **settings})


async def wait_empty(client: Client, stream: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while (await ask(client, f"STREAM.INFO.{stream}"))["state"]["messages"]:
            pass


async def take(inbox: Inbox, count: int = 1) -> list[Delivery]:
    async with asyncio.timeout(WAIT_S):
        return [await inbox.get() for _ in range(count)]


def unexpected(shard: int) -> None:
    raise AssertionError(f"shard {shard} was lost")


async def connect(stack: AsyncExitStack, port: int) -> Client:
    async def ignore(_: Exception) -> None:
        return

    client = await nats.connect(
        f"nats://127.0.0.1:{port}", max_reconnect_attempts=-1, reconnect_time_wait=0.02, error_cb=ignore
    )
    stack.push_async_callback(client.close)
    return client


@asynccontextmanager
async def mortal(store: Path) -> AsyncGenerator[tuple[int, Callable[..., Awaitable[None]]]]:
    """The port of a server, and a function that kills it and starts it again on the same store and port.

    What the function is given happens while the server has stopped answering, and is not dead yet.
    """
    server = EmbeddedServer(store, durability="process")
    async with AsyncExitStack() as lives:
        await lives.enter_async_context(server)

        async def kill(meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
            server.settle()
            if meanwhile is not None:
                os.kill(server.pid, signal.SIGSTOP)
                await meanwhile()
            os.kill(server.pid, signal.SIGKILL)
            await server.wait_exited()
            await lives.aclose()
            await lives.enter_async_context(server)

        yield server.port, kill


# A server that is killed under load


async def test_a_server_killed_twice_under_load_stores_each_record_and_each_relay_once(
    store_dir: Path, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append decides itself; whoever posts sees that the outcome is unknown, and may post the same id again."""
    monkeypatch.setattr(log, "RESEND_PAUSE_S", 0.02)
    addresses = [Address("k", f"{number}") for number in range(30)]
    inbox = Inbox()
    unknown = 0
    gone, ready, sent = asyncio.Event(), asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def all_of(signals: asyncio.Semaphore) -> None:
        for _ in addresses:
            await signals.acquire()

    async def unheard() -> None:
        """Every relay sends one that nobody answers."""
        gone.set()
        await all_of(sent)

    async def write(bus: NatsBus, address: Address) -> list[int]:
        sequences = [0]
        for number in range(30):
            rid = f"{address.key}.{number}"
            sequences.append(await bus.log.append(address, record(rid), rid=rid, after=sequences[-1]))
        return sequences[1:]

    async def relay(bus: NatsBus, address: Address) -> None:
        nonlocal unknown
        for number in range(30):
            rid = f"{address.key}.{number}"
            if number == 20:
                ready.release()
                await gone.wait()
                sent.release()
            while True:
                try:
                    await bus.mail.post("act", address, rid.encode(), message_id=f"{bus.epoch}.0.{rid}")
                    break
                except (RequestTimeout, NoResponder, Unreachable):
                    unknown += 1
                    await bus.log.read(BOB)  # comes back when the server has

    async with mortal(store_dir) as (port, kill), AsyncExitStack() as stack:
        client = await connect(stack, port)
        bus = await stack.enter_async_context(open_bus(client, app, create=True))
        await stack.enter_async_context(bus.mail.serve(inbox.put_nowait, unexpected))
        async with asyncio.timeout(2 * WAIT_S), asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(write(bus, address)) for address in addresses]
            for address in addresses:
                tasks.create_task(relay(bus, address))
            got = await take(inbox, 200)
            await kill()
            got += await take(inbox, 300)
            await all_of(ready)
            await kill(unheard)
        got += await take(inbox, 900 - len(got))
        for address, writer in zip(addresses, writers, strict=True):
            assert [each.sequence for each in await bus.log.read(address)] == writer.result()
            mine = [each.body for each in got if each.address == address]
            assert mine == [f"{address.key}.{number}".encode() for number in range(30)]
        for each in got:
            await each.ack()
        await wait_empty(client, bus.subjects.mail_stream("act"))
    assert inbox.empty()
    assert unknown >= len(addresses)


# Appends that are late (H2)


async def test_an_append_that_is_late_on_its_way_is_stored_once_however_often_it_was_sent_again(
    nats_server: EmbeddedServer, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "APPEND_TIMEOUT_S", 0.05)
    monkeypatch.setattr(log, "RESEND_PAUSE_S", 0.01)
    proxy = Reader(nats_server.port)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(proxy.running())
        straight = await stack.enter_async_context(open_bus(await connect(stack, nats_server.port), app, create=True))
        client = await connect(stack, proxy.port)
        node = await stack.enter_async_context(open_bus(client, app))
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            proxy.questions.clear()
            sent = client.stats["out_msgs"]
            append = tasks.create_task(node.log.append(ALICE, record("1"), rid="1", after=0))
            while client.stats["out_msgs"] < sent + 3:
                assert await straight.log.read(ALICE) == []
            proxy.questions.set()
        assert [each.sequence for each in await straight.log.read(ALICE)] == [append.result()]
        assert await node.log.append(ALICE, record("2"), rid="2", after=append.result()) > append.result()
        assert len(await straight.log.read(ALICE)) == 2


# Whoever does not read


async def test_a_listener_that_does_not_read_is_cut_and_nobody_else_notices(store_dir: Path, app: str) -> None:
    async with Narrow(store_dir, durability="process", max_payload_bytes=MEGABYTE) as server, AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(await connect(stack, server.port), app, create=True))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        stack.callback(writer.transport.abort)
        writer.write(f'CONNECT {{"verbose":false}}\r\nSUB rg.{app}.live.> 1\r\nPING\r\n'.encode())
        await reader.readuntil(b"PONG\r\n")
        last = number = 0
        async with asyncio.timeout(WAIT_S):
            while not server.cut():
                number += 1
                data = record(f"{number}", 900_000)
                last = await bus.log.append(ALICE, data, rid=f"{number}", after=last)
        assert await bus.log.append(ALICE, record("end"), rid="end", after=last) == number + 1


async def test_a_node_that_was_cut_because_it_did_not_read_gets_all_its_mail_in_order(
    store_dir: Path, app: str
) -> None:
    """A flood of core messages fills what the server keeps for it; those are lost, as core messages are."""
    inbox = Inbox()
    async with Narrow(store_dir, durability="process", max_payload_bytes=MEGABYTE) as server, AsyncExitStack() as stack:
        proxy = Reader(server.port)
        await stack.enter_async_context(proxy.running())
        client = await connect(stack, server.port)
        straight = await stack.enter_async_context(open_bus(client, app, create=True))
        node = await stack.enter_async_context(open_bus(await connect(stack, proxy.port), app))
        async with node.mail.serve(inbox.put_nowait, unexpected), node.serve("flood", lambda _: None):
            await straight.mail.post("in", ALICE, b"0")
            got = await take(inbox)
            proxy.answers.clear()
            count = 0
            async with asyncio.timeout(WAIT_S):
                while not server.cut():
                    count += 1
                    await straight.publish("flood", bytes(900_000))
                    await straight.mail.post("in", ALICE, b"%d" % count)
            assert await straight.log.append(BOB, record("1"), rid="1", after=0) == 1
            proxy.answers.set()
            got += await take(inbox, count)
            assert [int(each.body) for each in got] == list(range(count + 1))
            for each in got:
                await each.ack()
            await wait_empty(client, straight.subjects.mail_stream("in"))
    assert inbox.empty()


# What is full


async def test_a_log_stream_without_room_refuses_and_goes_on_when_there_is_room(
    nats_bus: NatsBus, client: Client
) -> None:
    """Nothing that was accepted is thrown away for it, and the other streams do not care."""
    stream = nats_bus.subjects.log_stream(log_number(ALICE))
    last = await nats_bus.log.append(ALICE, record("1", 1_000), rid="1", after=0)
    await change(client, stream, max_bytes=2_000)
    for rollup in (False, True):
        with pytest.raises(StoreFull, match=f"no room for {nats_bus.subjects.log(ALICE)}"):
            await nats_bus.log.append(ALICE, record("2", 1_000), rid="2", after=last, rollup=rollup)
    assert [each.sequence for each in await nats_bus.log.read(ALICE)] == [last]
    assert await nats_bus.log.append(BOB, record("1", 10_000), rid="1", after=0) == 1
    await change(client, stream, max_bytes=-1)
    assert await nats_bus.log.append(ALICE, record("2", 1_000), rid="2", after=last) > last


async def test_a_server_that_cannot_set_aside_what_an_application_wants_says_so_at_once(
    store_dir: Path, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regrow.bus.server.MAX_FILE_STORE_BYTES", 100 * MEGABYTE)
    async with EmbeddedServer(store_dir, durability="process") as server, AsyncExitStack() as stack:
        client = await connect(stack, server.port)
        with pytest.raises(BusError, match=r"storage|room"):
            await stack.enter_async_context(open_bus(client, app, create=True))
