"""What breaks between a node and its server: answers that never come, cut connections, killed servers.

A proxy between them loses bytes at a chosen moment; a second connection, straight to the server, sees what really happened.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus import (
    Address,
    Delivery,
    EmbeddedServer,
    NatsBus,
    RequestTimeout,
    StaleWriter,
    Stored,
    StoreUnavailable,
    audit,
    encode,
    leases,
    log,
    open_bus,
    service,
)
from regrow.bus.api import ApiError, JetStreamApi
from regrow.bus.fence import PROBE
from regrow.bus.replies import ReplyInbox
from regrow.bus.shards import Shards
from regrow.bus.subjects import SHARDS, Box

pytestmark = [
    pytest.mark.asyncio,
    # nats-py forgets the stream of a handshake that failed, and the collector finds it.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

ALICE = Address("counter", "alice")
WAIT_S = 20.0

Inbox = asyncio.Queue[Delivery]
T = TypeVar("T")


@pytest.fixture(autouse=True)
def forgotten_streams() -> Iterator[None]:
    """Collects in this module what was forgotten in it."""
    yield
    gc.collect()


class Proxy:
    """A TCP proxy that may lose or hold what goes one way, and cut all connections."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.lose_answers = False
        self.lose_questions = False
        self.lose: bytes | None = None
        """From a question that holds this on all are lost."""
        self.lost = bytearray()
        """The questions that were lost."""
        self.forge: Callable[[bytes], bytes] = bytes
        """What becomes of a question on its way."""
        self.flowing = asyncio.Event()
        self.flowing.set()
        """While it is not set, what comes from the server is held back."""
        self._target = port
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._pumps)

    def cut(self) -> None:
        """Ends all connections at once and loses nothing from now on."""
        self.lose_answers = self.lose_questions = False
        self.lose = None
        self.flowing.set()
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, there]
        await asyncio.gather(self._questions(reader, there), self._answers(there_reader, writer))

    async def _questions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for data in chunks(reader):
            if self.lose_questions or (self.lose is not None and self.lose in data):
                self.lose_questions = True
                self.lost += data
            else:
                writer.write(self.forge(data))
        writer.transport.abort()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for data in chunks(reader):
            await self.flowing.wait()
            if not self.lose_answers:
                writer.write(data)
        writer.transport.abort()


async def chunks(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    try:
        while data := await reader.read(65536):
            yield data
    except ConnectionError:
        return


async def connect(stack: AsyncExitStack, port: int) -> Client:
    async def ignore(_: Exception) -> None:
        return

    client = await nats.connect(
        f"nats://127.0.0.1:{port}", max_reconnect_attempts=-1, reconnect_time_wait=0.02, error_cb=ignore
    )
    stack.push_async_callback(client.close)
    return client


class Line:
    """A node's bus behind a proxy, and a straight one."""

    def __init__(self, proxy: Proxy, node: NatsBus, straight: NatsBus, watcher: Client, api: JetStreamApi) -> None:
        self.proxy = proxy
        self.node = node
        self.straight = straight
        self.watcher = watcher
        self.api = api

    async def wait_record(self, rid: str) -> list[Stored]:
        """The log once the server has stored the record, as the straight connection reads it."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found = await self.straight.log.read(ALICE)
                if any(each.data == record(rid) for each in found):
                    return found

    async def wait_lost(self, what: bytes, count: int = 1) -> None:
        """Returns once the proxy has lost so many of these."""
        async with asyncio.timeout(WAIT_S):
            while self.proxy.lost.count(what) < count:
                await self.straight.log.read(ALICE)

    async def wait_mail(self, box: Box, count: int) -> None:
        verb = f"STREAM.INFO.{self.node.subjects.mail_stream(box)}"
        async with asyncio.timeout(WAIT_S):
            while (await self.api.call(verb))["state"]["messages"] != count:
                pass


@asynccontextmanager
async def line_to(port: int, app: str) -> AsyncGenerator[Line]:
    proxy = Proxy(port)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(proxy.running())
        watcher = await connect(stack, port)
        straight = await stack.enter_async_context(open_bus(watcher, app, create=True))
        api = JetStreamApi(await stack.enter_async_context(ReplyInbox(watcher)))
        node = await stack.enter_async_context(open_bus(await connect(stack, proxy.port), app))
        yield Line(proxy, node, straight, watcher, api)


@pytest_asyncio.fixture
async def line(nats_server: EmbeddedServer, app: str) -> AsyncGenerator[Line]:
    async with line_to(nats_server.port, app) as line:
        yield line


@asynccontextmanager
async def mortal(store: Path) -> AsyncGenerator[Callable[[], Awaitable[int]]]:
    """A function that starts the server, or kills it and starts it again on the same store and port; its port."""
    async with AsyncExitStack() as stack:
        running: list[EmbeddedServer] = []
        lives = await stack.enter_async_context(AsyncExitStack())

        async def start() -> int:
            port = 0
            if running:
                server = running.pop()
                port = server.port
                server.settle()
                os.kill(server.pid, signal.SIGKILL)
                await server.wait_exited()
                await lives.aclose()
            server = EmbeddedServer(store, durability="process", port=port)
            running.append(await lives.enter_async_context(server))
            return server.port

        yield start


def record(rid: str) -> bytes:
    return encode({"rid": rid})


async def take(inbox: Inbox, count: int = 1) -> list[Delivery]:
    async with asyncio.timeout(WAIT_S):
        return [await inbox.get() for _ in range(count)]


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [each.body for each in deliveries]


def unexpected(shard: int) -> None:
    raise AssertionError(f"shard {shard} was lost")


async def within(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(WAIT_S):
        return await awaitable


# Appends


async def test_an_append_whose_acknowledgement_is_lost_is_stored_once(line: Line) -> None:
    last = await line.node.log.append(ALICE, record("1"), rid="1", after=0)
    async with asyncio.TaskGroup() as tasks:
        line.proxy.lose_answers = True
        append = tasks.create_task(line.node.log.append(ALICE, record("2"), rid="2", after=last))
        await line.wait_record("2")
        line.proxy.cut()
        sequence = await within(append)
    assert [(each.sequence, each.data) for each in await line.straight.log.read(ALICE)] == [
        (last, record("1")),
        (sequence, record("2")),
    ]


async def test_a_rollup_whose_acknowledgement_is_lost_is_stored_once(line: Line) -> None:
    last = await line.node.log.append(ALICE, record("1"), rid="1", after=0)
    async with asyncio.TaskGroup() as tasks:
        line.proxy.lose_answers = True
        append = tasks.create_task(line.node.log.append(ALICE, record("s"), rid="s", after=last, rollup=True))
        await line.wait_record("s")
        line.proxy.cut()
        sequence = await within(append)
    assert [each.sequence for each in await line.straight.log.read(ALICE)] == [sequence]


async def test_an_append_that_never_reached_the_server_is_sent_again(line: Line) -> None:
    async with asyncio.TaskGroup() as tasks:
        line.proxy.lose_questions = True
        append = tasks.create_task(line.node.log.append(ALICE, record("1"), rid="1", after=0))
        assert await line.straight.log.read(ALICE) == []
        line.proxy.cut()
        sequence = await within(append)
    assert [each.sequence for each in await line.straight.log.read(ALICE)] == [sequence]


async def test_an_append_that_was_overtaken_while_its_outcome_was_unknown_is_stale(line: Line) -> None:
    line.proxy.lose_questions = True
    append = asyncio.ensure_future(line.node.log.append(ALICE, record("mine"), rid="mine", after=0))
    sequence = await line.straight.log.append(ALICE, record("theirs"), rid="theirs", after=0)
    line.proxy.cut()
    with pytest.raises(StaleWriter) as stale:
        await within(append)
    assert stale.value.found == sequence
    assert [each.data for each in await line.straight.log.read(ALICE)] == [record("theirs")]


async def test_an_append_whose_acknowledgement_is_late_is_sent_again_and_stored_once(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "APPEND_TIMEOUT_S", 0.1)
    seen: asyncio.Queue[Msg] = asyncio.Queue()
    await line.watcher.subscribe(line.node.subjects.log(ALICE), cb=seen.put)
    await line.watcher.flush()
    async with asyncio.TaskGroup() as tasks:
        line.proxy.flowing.clear()
        append = tasks.create_task(line.node.log.append(ALICE, record("1"), rid="1", after=0))
        for _ in range(3):
            await within(seen.get())
        line.proxy.flowing.set()
        sequence = await within(append)
    assert [each.sequence for each in await line.straight.log.read(ALICE)] == [sequence]


async def test_many_appends_under_way_when_the_connection_breaks_are_each_stored_once(line: Line) -> None:
    addresses = [Address("k", f"{number}") for number in range(200)]

    async def write(address: Address) -> list[int]:
        sequences = [0]
        for number in range(10):
            rid = f"{address.key}.{number}"
            sequences.append(await line.node.log.append(address, record(rid), rid=rid, after=sequences[-1]))
        return sequences[1:]

    async with asyncio.TaskGroup() as tasks:
        writers = [tasks.create_task(write(address)) for address in addresses]
        for count in (200, 600, 1200):
            while await line.straight.count_records() < count:
                pass
            line.proxy.cut()
    for address, writer in zip(addresses, writers, strict=True):
        assert [each.sequence for each in await line.straight.log.read(address)] == writer.result()


async def test_a_read_that_broke_is_read_again(line: Line) -> None:
    last = 0
    for number in range(1500):
        rid = f"{number}"
        last = await line.straight.log.append(ALICE, record(rid), rid=rid, after=last)
    async with asyncio.TaskGroup() as tasks:
        line.proxy.lose_answers = True
        read = tasks.create_task(line.node.log.read(ALICE))
        await line.straight.log.read(ALICE)
        line.proxy.cut()
        assert [each.sequence for each in await within(read)] == list(range(1, 1501))


async def test_a_request_over_a_connection_that_broke_is_not_waited_for(line: Line) -> None:
    async with line.straight.serve("silent", lambda request: None):
        request = asyncio.ensure_future(line.node.request("silent", b"", timeout_s=10 * WAIT_S))
        await line.node.log.read(ALICE)
        line.proxy.cut()
        with pytest.raises(RequestTimeout):
            await within(request)


async def test_an_append_across_a_kill_of_the_server_is_stored_once(store_dir: Path, app: str) -> None:
    async with mortal(store_dir) as start, line_to(await start(), app) as line:
        last = await line.node.log.append(ALICE, record("1"), rid="1", after=0)
        async with asyncio.TaskGroup() as tasks:
            line.proxy.lose_answers = True
            append = tasks.create_task(line.node.log.append(ALICE, record("2"), rid="2", after=last))
            await line.wait_record("2")
            await start()
            line.proxy.cut()
            sequence = await within(append)
        found = await line.straight.log.read(ALICE)
        assert [each.data for each in found] == [record("1"), record("2")]
        assert found[-1].sequence == sequence
        assert await line.node.log.append(ALICE, record("3"), rid="3", after=sequence) > sequence


# Mail


async def test_mail_that_was_lost_on_its_way_comes_again_by_itself(line: Line) -> None:
    inbox = Inbox()
    async with line.node.mail.serve(inbox.put_nowait, unexpected):
        for number in range(10):
            await line.straight.mail.post("in", ALICE, b"%d" % number)
        early = await take(inbox, 10)
        line.proxy.lose_answers = True
        for number in range(10, 20):
            await line.straight.mail.post("in", ALICE, b"%d" % number)
        line.proxy.cut()
        late = await take(inbox, 10)
        assert bodies(late) == [b"%d" % number for number in range(10, 20)]
        for delivery in (*early, *late):
            await delivery.ack()
        await line.wait_mail("in", 0)
    assert inbox.empty()


async def test_acknowledgements_that_were_lost_bring_their_messages_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regrow.bus.desk.ACK_HOLD_S", 0.0)  # they leave before the connection is cut
    inbox = Inbox()
    async with line.node.mail.serve(inbox.put_nowait, unexpected):
        for number in range(5):
            await line.straight.mail.post("act", ALICE, b"%d" % number)
        got = await take(inbox, 5)
        line.proxy.lose_questions = True
        for delivery in got[:3]:
            await delivery.ack()
        await line.straight.log.read(ALICE)
        line.proxy.cut()
        again = await take(inbox, 3)
        assert bodies(again) == [b"0", b"1", b"2"]
        for delivery in (*again, *got[3:]):
            await delivery.ack()
        await line.wait_mail("act", 0)


async def test_a_node_that_was_cut_off_does_not_take_back_what_another_took_over(line: Line) -> None:
    mine, theirs = Inbox(), Inbox()
    lost: asyncio.Queue[int] = asyncio.Queue()
    async with line.node.mail.serve(mine.put_nowait, lost.put_nowait):
        line.proxy.lose_answers = True
        async with line.straight.mail.serve(theirs.put_nowait, unexpected):
            line.proxy.cut()
            assert sorted([await within(lost.get()) for _ in range(SHARDS)]) == list(range(SHARDS))
            for number in range(100):
                await line.straight.mail.post("in", Address("k", f"{number}"), b"")
            await take(theirs, 100)
        assert mine.empty()
        assert lost.empty()


async def test_connections_that_break_again_and_again_lose_and_double_nothing(line: Line) -> None:
    inbox = Inbox()
    count = 400
    async with line.node.mail.serve(inbox.put_nowait, unexpected):
        got: list[Delivery] = []
        for number in range(count):
            await line.straight.mail.post("in", Address("k", f"{number % 7}"), b"%d" % number)
            if number % 50 == 49:
                got += await take(inbox, number // 2 - len(got))
                line.proxy.cut()
        got += await take(inbox, count - len(got))
        assert sorted(int(each.body) for each in got) == list(range(count))
        for actor in range(7):
            order = [int(each.body) for each in got if each.address.key == f"{actor}"]
            assert order == sorted(order)
        for delivery in got:
            await delivery.ack()
        await line.wait_mail("in", 0)
    assert inbox.empty()


async def test_a_mail_service_goes_on_when_its_server_was_killed(store_dir: Path, app: str) -> None:
    inbox = Inbox()
    async with (
        mortal(store_dir) as start,
        line_to(await start(), app) as line,
        line.node.mail.serve(inbox.put_nowait, unexpected) as holding,
    ):
        for number in range(300):
            await line.node.mail.post("in", ALICE, b"%d" % number)
        got = await take(inbox, 300)
        for delivery in got[:100]:
            await delivery.ack()
        await line.wait_mail("in", 200)
        await start()
        await line.straight.mail.post("in", ALICE, b"new")
        assert b"new" in bodies(await take(inbox))
        await within(holding.take_over())
        again = await take(inbox, 201)
        assert bodies(again) == [*bodies(got[100:]), b"new"]
        for delivery in again:
            await delivery.ack()
        await line.wait_mail("in", 0)


async def test_a_takeover_goes_on_through_a_kill_of_the_server(store_dir: Path, app: str) -> None:
    inbox = Inbox()
    async with (
        mortal(store_dir) as start,
        line_to(await start(), app) as line,
        line.node.mail.serve(inbox.put_nowait, unexpected) as holding,
    ):
        for number in range(20):
            await line.node.mail.post("act", Address("k", f"{number}"), b"%d" % number)
        await take(inbox, 20)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(within(holding.take_over()))
            await start()
        found: set[bytes] = set()
        while len(found) < 20:
            found |= set(bodies(await take(inbox)))
        await line.straight.mail.post("in", ALICE, b"new")
        while b"new" not in found:
            found |= set(bodies(await take(inbox)))


@pytest.mark.parametrize("question", [b"$KV.rg_", b"CONSUMER.CREATE"])
async def test_a_service_whose_start_was_not_answered_tries_again(line: Line, question: bytes) -> None:
    inbox = Inbox()
    await line.straight.mail.post("in", ALICE, b"waits")

    async def serve() -> None:
        async with line.node.mail.serve(inbox.put_nowait, unexpected):
            assert bodies(await take(inbox)) == [b"waits"]

    line.proxy.lose = question
    serving = asyncio.ensure_future(serve())
    await line.wait_lost(question)
    line.proxy.cut()
    await within(serving)


async def test_a_service_whose_start_is_never_answered_ends(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "START_S", 0.0)

    async def serve() -> None:
        async with line.node.mail.serve(Inbox().put_nowait, unexpected):
            raise AssertionError("it serves")

    line.proxy.lose_questions = True
    serving = asyncio.ensure_future(serve())
    await line.wait_lost(b"STREAM.INFO")
    line.proxy.cut()
    with pytest.raises(RequestTimeout):
        await within(serving)


async def test_what_the_server_refuses_at_the_start_of_a_service_is_not_tried_again(line: Line) -> None:
    await line.api.call(f"STREAM.DELETE.{line.node.subjects.lease_stream}")
    with pytest.raises(ApiError, match="stream not found"):
        async with line.node.mail.serve(Inbox().put_nowait, unexpected):
            raise AssertionError("it serves")


# Acknowledgements


async def test_an_acknowledgement_that_was_lost_is_found_and_the_mail_comes_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "AUDIT_S", 0.05)
    inbox = Inbox()
    async with line.node.mail.serve(inbox.put_nowait, unexpected):
        for number in range(6):
            await line.straight.mail.post("in", ALICE, b"%d" % number)
        got = await take(inbox, 6)
        line.proxy.lose_questions = True
        for delivery in got[1:4]:
            await delivery.ack()
        await line.wait_lost(b"+ACK", 3)
        line.proxy.lose_questions = False
        await got[0].ack()
        again = await take(inbox, 3)
        assert bodies(again) == [b"1", b"2", b"3"]
        for delivery in (*again, *got[4:]):
            await delivery.ack()
        await line.wait_mail("in", 0)


async def test_mail_that_nobody_acknowledges_is_no_loss(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "AUDIT_S", 0.01)
    inbox = Inbox()
    looks: asyncio.Queue[Msg] = asyncio.Queue()
    await line.watcher.subscribe(f"$JS.API.CONSUMER.INFO.{line.node.subjects.mail_stream('in')}.*", cb=looks.put)
    await line.watcher.flush()
    async with line.node.mail.serve(inbox.put_nowait, unexpected):
        for number in range(6):
            await line.straight.mail.post("in", ALICE, b"%d" % number)
        got = await take(inbox, 6)
        await got[0].ack()
        await within(looks.get())
        await got[1].ack()
        await got[3].ack()
        first = await within(looks.get())
        await got[2].ack()
        last = await within(looks.get())
        assert first.subject == last.subject, "the consumer is still the same"
        await line.straight.mail.post("in", ALICE, b"6")
        assert bodies(await take(inbox)) == [b"6"]


# A fence that does not arrive


@pytest.mark.parametrize("forged", [b"nats-expected-last-subject-sequence", b"X-ts-Expected-Last-Subject-Sequence"])
async def test_a_node_does_not_start_where_the_fence_does_not_arrive(line: Line, forged: bytes) -> None:
    line.proxy.forge = lambda data: data.replace(b"Nats-Expected-Last-Subject-Sequence", forged)
    client = await nats.connect(f"nats://127.0.0.1:{line.proxy.port}")
    try:
        with pytest.raises(StoreUnavailable, match="drops the fence header"):
            async with open_bus(client, line.node.subjects.app):
                raise AssertionError("it is open")
    finally:
        await client.close()
    assert await line.straight.log.addresses() == [PROBE]


async def test_the_fence_is_tried_at_the_start_and_nothing_is_stored(line: Line) -> None:
    tried: asyncio.Queue[Msg] = asyncio.Queue()
    await line.watcher.subscribe(line.node.subjects.log(PROBE), cb=tried.put)
    await line.watcher.flush()
    async with open_bus(line.watcher, line.node.subjects.app) as bus:
        await within(tried.get())
        assert await bus.log.addresses() == []
        assert await bus.count_records() == 0


# Timers


async def test_timers_survive_a_kill_of_the_server_also_those_that_were_due_meanwhile(
    store_dir: Path, app: str
) -> None:
    inbox = Inbox()
    async with mortal(store_dir) as start, line_to(await start(), app) as line:
        now_ns = time.time_ns()
        await line.straight.mail.schedule(ALICE, "due", b"due", {"Rg-Type": "timer"}, at_ns=now_ns + 300_000_000)
        await line.straight.mail.schedule(ALICE, "later", b"later", at_ns=now_ns + 2_000_000_000)
        await line.straight.mail.schedule(ALICE, "hour", b"hour", at_ns=now_ns + 3_600 * 10**9)
        await start()
        async with line.straight.mail.serve(inbox.put_nowait, unexpected):
            got = await take(inbox, 2)
    assert bodies(got) == [b"due", b"later"]
    assert got[0].headers["Rg-Type"] == "timer"
    assert got[0].headers["Nats-Scheduler"] == line.straight.subjects.timer(ALICE, "due")
    assert got[0].headers["Nats-Schedule-Next"] == "purge"


# Bodies and proofs


async def test_a_body_is_fetched_through_a_kill_of_the_server(store_dir: Path, app: str) -> None:
    inbox = Inbox()
    async with (
        mortal(store_dir) as start,
        line_to(await start(), app) as line,
        line.node.mail.serve(inbox.put_nowait, unexpected),
    ):
        await line.node.mail.post("act", ALICE, b"body")
        (delivery,) = await take(inbox)
        delivery.shed()
        async with asyncio.TaskGroup() as tasks:
            line.proxy.lose_answers = True
            fetch = tasks.create_task(within(delivery.fetch()))
            await start()
            line.proxy.cut()
        assert fetch.result()
        assert delivery.body == b"body"


async def test_a_hold_is_proved_while_the_server_is_silent_for_the_time_of_a_lease_and_no_longer(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line.node.mail.serve(Inbox().put_nowait, unexpected) as holding:
        assert await holding.holds(0)
        line.proxy.flowing.clear()
        assert await holding.holds(0)
        monkeypatch.setattr(leases, "LEASE_S", 0.0)
        looks = asyncio.gather(*(holding.holds(0) for _ in range(10)))
        line.proxy.cut()
        assert await within(looks) == [False] * 10
        monkeypatch.undo()
        async with asyncio.timeout(WAIT_S):
            while not await holding.holds(0):
                pass


async def test_a_look_finds_out_that_the_shard_was_lost(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[int] = []
    async with line.node.mail.serve(Inbox().put_nowait, lost.append) as mine:
        async with ReplyInbox(line.watcher) as replies:
            other = Shards(replies, JetStreamApi(replies), line.node.subjects)
            await other.claim(3)
        assert await mine.holds(3)  # it was ours less than a lease ago
        monkeypatch.setattr(leases, "LEASE_S", 0.0)
        assert not await mine.holds(3)
        assert lost == [3]
        monkeypatch.undo()
        assert await mine.holds(4)
        assert not await mine.holds(3)


NODE = """
import asyncio, sys
import nats
from regrow.bus import leases, open_bus

async def main():
    leases.LEASE_S = 0.2
    client = await nats.connect(sys.argv[1])
    async with open_bus(client, sys.argv[2]) as bus:
        async with bus.mail.serve(lambda delivery: None, lambda shard: None) as holding:
            async with asyncio.TaskGroup() as tasks:
                async def answer(request):
                    held = await holding.holds(7)
                    await bus.publish(request.reply, b"yes" if held else b"no")

                async with bus.serve("held", lambda request: tasks.create_task(answer(request)) and None):
                    print("serving", flush=True)
                    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_process_that_was_stopped_answers_nothing_from_an_old_lease(
    nats_server: EmbeddedServer, line: Line
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, nats_server.url, line.node.subjects.app, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await within(process.stdout.readline()) == b"serving\n"
        assert (await line.straight.request("held", b"", timeout_s=WAIT_S)).body == b"yes"
        process.send_signal(signal.SIGSTOP)
        async with line.straight.mail.serve(Inbox().put_nowait, unexpected) as holding:
            stopped_s = time.monotonic()
            while time.monotonic() < stopped_s + 0.2:
                assert await holding.holds(7)
                await line.straight.log.read(ALICE)
            asked = asyncio.ensure_future(line.straight.request("held", b"", timeout_s=WAIT_S))
            await line.straight.log.read(ALICE)
            process.send_signal(signal.SIGCONT)
            assert (await asked).body == b"no"
    finally:
        process.kill()
        await process.wait()


async def test_mail_of_a_process_that_was_killed_is_suspect(nats_server: EmbeddedServer, line: Line) -> None:
    inbox = Inbox()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, nats_server.url, line.node.subjects.app, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await within(process.stdout.readline()) == b"serving\n"
        await line.straight.mail.post("in", ALICE, b"")
    finally:
        process.kill()
        await process.wait()
    async with line.straight.mail.serve(inbox.put_nowait, unexpected):
        await line.straight.mail.post("in", ALICE, b"")
        assert [each.suspect for each in await take(inbox, 2)] == [True, False]
