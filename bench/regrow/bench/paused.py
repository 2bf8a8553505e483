"""An owner that is stopped in the middle of its work, overtaken, and goes on as if nothing had happened.

``pause`` runs it as a process of its own (``paused_app``), has it relay many sends while asks are under way, and stops it
(SIGSTOP). Past its lease a second process takes over; past the window in which the server drops repeated relays the first one
goes on (SIGCONT). Asks and queries come in all the while. In the end the logs say who wrote what, and the receivers' lists what
was applied.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from nats.aio.msg import Msg

from regrow.actors.client import Client
from regrow.actors.records import Record, Turn
from regrow.bench import paused_app
from regrow.bench.paused_app import Applied, Apply, Flood, Flooder, Peek, Receiver, Seen, Who
from regrow.bench.raw import RawLog, raw_log
from regrow.bus import Address, EmbeddedServer, NatsBus, decode, encode, open_bus
from regrow.bus.connection import ServerAddress, close, connect
from regrow.bus.headers import ID, MESSAGE_ID
from regrow.bus.leases import LEASE_S
from regrow.bus.server import Durability

APP = "paused"
RECEIVERS = 40
FLOODERS = 8
ASKERS = 20
"""Half of them ask through the runtime's own client, half as any NATS client does, again under the same id without an answer."""
STOPPED_AT = 0.2
"""The share of all sends that has been relayed when the owner is stopped."""
PAST_S = 2.0
"""By how much the stop outlasts lease and window."""
QUERY_PAUSE_S = 0.02
ASK_PAUSE_S = 0.5
"""Between two asks of an asker once the owner is stopped; before, there is none."""
RESEND_S = 2.0
READY_TIMEOUT_S = 60.0
EMPTY_TIMEOUT_S = 180.0
POLL_S = 0.1


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted. The first six have to be 0."""

    v: int = 1
    old_writes_after_new: int
    """Records of the old owner that lie behind the new one's first, in the same log."""
    old_writes_after_takeover: int
    """Records of the old owner in any log that are younger than the new one's first in whichever."""
    applied_twice: int
    """Sends and asks that a receiver applied more than once."""
    sends_lost: int
    asks_lost: int
    """Asks that were answered and are in no receiver's list."""
    stale_answers: int
    """Queries that the old owner answered from a state older than what had been acknowledged before they were sent."""
    old_answers: int
    """Queries that the old owner answered at all after it went on, such as one that it was just answering when it was stopped."""
    sends: int
    relayed_before: int
    """Sends that had been relayed when the owner was stopped."""
    asks: int
    """Asks that were answered, all in all."""
    asks_under_way: int
    """Those that were under way when the owner was stopped."""
    queries: int
    relays_repeated: int
    """Relays that were published more than once."""
    relays_repeated_by_old: int
    """Those of them that came after the old owner went on; the window was over, so nothing but the receivers dropped them."""
    records_old: int
    records_new: int
    stopped_s: float
    window_s: float
    takeover_s: float
    """From the start of the second process until it served."""
    dead_letters: int

    @property
    def is_right(self) -> bool:
        """Whether nothing happened that must not."""
        return not any(
            (
                self.old_writes_after_new,
                self.old_writes_after_takeover,
                self.applied_twice,
                self.sends_lost,
                self.asks_lost,
                self.stale_answers,
            )
        )


class Query(msgspec.Struct):
    """One query, and what had been acknowledged of its receiver before it was sent."""

    known: int
    sent_s: float
    answers: list[tuple[float, Seen]] = []


class Load:
    """Asks and queries from outside, until told to end."""

    def __init__(self, bus: NatsBus, raw: RawLog) -> None:
        self._bus = bus
        self._raw = raw
        self._client = Client(bus)
        self._ending = False
        self.pause_s = 0.0
        self.under_way = 0
        self.acked: list[str] = []
        self.queries: list[Query] = []
        self._known: Counter[str] = Counter()

    def end(self) -> None:
        """No further ask or query begins."""
        self._ending = True

    async def ask(self, asker: int, patience_s: float) -> None:
        """One asker's asks, one after the other."""
        number = 0
        while not self._ending:
            number += 1
            key, op = f"r{(asker + number) % RECEIVERS}", f"ask-{asker}-{number}"
            self.under_way += 1
            if asker % 2:
                version = await self._client.ref(Receiver, key).ask(Apply(op=op), timeout_s=patience_s)
            else:
                version = await self._request(key, op)
            self.under_way -= 1
            self.acked.append(op)
            self._known[key] = max(self._known[key], version)
            await asyncio.sleep(self.pause_s)

    async def look(self) -> None:
        """Queries, whose answers may come whenever they like."""
        number = 0
        while not self._ending:
            number += 1
            key = f"r{number % RECEIVERS}"
            query = Query(self._known[key], time.monotonic())
            self.queries.append(query)

            def take(message: Msg, query: Query = query) -> None:
                with contextlib.suppress(msgspec.DecodeError):  # no responder, or a failure
                    query.answers.append((time.monotonic(), msgspec.json.decode(message.data, type=Seen)))

            address = Address(Receiver.__regrow__.kind, key)
            await self._raw.ask(self._bus.subjects.query(address), encode(Peek()), take)
            await asyncio.sleep(QUERY_PAUSE_S)

    async def _request(self, key: str, op: str) -> int:
        """An ask through whichever gateway takes it; again, under the same id, while no answer comes."""
        answered = asyncio.Event()
        answers: list[bytes] = []

        def take(message: Msg) -> None:
            if message.data and not (message.headers or {}).get("Nats-Service-Error"):
                answers.append(message.data)
                answered.set()

        subject = self._bus.subjects.ask(Address(Receiver.__regrow__.kind, key))
        while True:
            await self._raw.ask(subject, encode(Apply(op=op)), take, {ID: op})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RESEND_S):
                    await answered.wait()
                return int(answers[0])


class Relays:
    """Sees every relay that anybody publishes, stored or not."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str]] = []

    async def see(self, message: Msg) -> None:
        self.seen.append((time.monotonic(), (message.headers or {}).get(MESSAGE_ID, "")))

    def repeated(self, since_s: float = 0.0) -> int:
        """How many were published after that moment although they had been before."""
        known: set[str] = set()
        again = 0
        for at_s, name in self.seen:
            again += name in known and at_s >= since_s
            known.add(name)
        return again


async def pause(
    folder: Path, *, window_s: float, sends: int, after_s: float, durability: Durability = "process"
) -> Paused:
    """``window_s``: in which the server drops repeated relays; ``after_s``: how long the old owner goes on under load."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(folder / "store", durability=durability))
        client = await connect(ServerAddress(url=server.url), name="paused")
        stack.push_async_callback(close, client)
        bus = await stack.enter_async_context(open_bus(client, APP, create=True, duplicate_window_s=window_s))
        raw = await stack.enter_async_context(raw_log(client))
        relays = Relays()
        await client.subscribe(f"rg.{APP}.act.*.*", cb=relays.see, pending_msgs_limit=0, pending_bytes_limit=0)
        old, who = await stack.enter_async_context(running(server.url, folder / "old.log"))
        load = Load(bus, raw)
        stack.callback(load.end)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        asking = [tasks.create_task(load.ask(number, window_s + EMPTY_TIMEOUT_S)) for number in range(ASKERS)]
        asking.append(tasks.create_task(load.look()))
        await flood(Client(bus), sends)
        while len(relays.seen) < sends * STOPPED_AT:  # noqa: ASYNC110 # the relays themselves tell nobody
            await asyncio.sleep(0)
        old.send_signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        relayed, under_way = len(relays.seen), load.under_way
        load.pause_s = ASK_PAUSE_S
        await asyncio.sleep(LEASE_S + PAST_S)
        began_s = time.monotonic()
        _, new_who = await stack.enter_async_context(running(server.url, folder / "new.log"))
        takeover_s = time.monotonic() - began_s
        await wait_relayed(bus, raw)
        await asyncio.sleep(max(0.0, stopped_s + window_s + PAST_S - time.monotonic()))
        old.send_signal(signal.SIGCONT)
        went_on_s = time.monotonic()
        await asyncio.sleep(after_s)
        load.end()
        await asyncio.wait(asking)
        await wait_relayed(bus, raw)
        logs = {address: await bus.log.read(address) for address in await bus.log.addresses()}
        records = [
            (address, stored.time_ns, decode(stored.data, Record)) for address, log in logs.items() for stored in log
        ]
        dead = len(await bus.dead.find())
    return Paused(
        **writes(records, who.nonce, new_who.nonce),
        **applied(records, sends, load.acked),
        **answers(load.queries, who.pid, went_on_s),
        sends=sends,
        relayed_before=relayed,
        asks=len(load.acked),
        asks_under_way=under_way,
        queries=len(load.queries),
        relays_repeated=relays.repeated(),
        relays_repeated_by_old=relays.repeated(went_on_s),
        stopped_s=round(went_on_s - stopped_s, 1),
        window_s=window_s,
        takeover_s=round(takeover_s, 2),
        dead_letters=dead,
    )


Written = tuple[Address, int, Record]
"""A record: whose log it is in, when the server stored it, itself."""


def writes(records: Sequence[Written], old: str, new: str) -> dict[str, int]:
    """How many records of the old owner lie behind the new one's first; the records of each log in their order."""
    by = [(address, at_ns, record.rid.rpartition("-")[0]) for address, at_ns, record in records]
    first_ns = min((at_ns for _, at_ns, writer in by if writer == new), default=sys.maxsize)
    overtaken: set[Address] = set()
    behind = 0
    for address, _, writer in by:
        behind += writer == old and address in overtaken
        if writer == new:
            overtaken.add(address)
    return {
        "old_writes_after_new": behind,
        "old_writes_after_takeover": sum(writer == old and at_ns > first_ns for _, at_ns, writer in by),
        "records_old": sum(writer == old for _, _, writer in by),
        "records_new": sum(writer == new for _, _, writer in by),
    }


def applied(records: Sequence[Written], sends: int, acked: Sequence[str]) -> dict[str, int]:
    """What the receivers' logs say was applied, against what was sent and what was answered."""
    turns = [
        entry
        for address, _, record in records
        if address.kind == Receiver.__regrow__.kind
        for entry in record.entries
        if isinstance(entry, Turn)
    ]
    ops = Counter(msgspec.json.decode(fact, type=Applied).op for turn in turns for fact in turn.events)
    sent = sum(">" in op for op in ops)
    return {
        "applied_twice": sum(count - 1 for count in ops.values()),
        "sends_lost": sends - sent,
        "asks_lost": sum(op not in ops for op in acked),
    }


def answers(queries: Sequence[Query], old: int, since_s: float) -> dict[str, int]:
    """How often the old owner answered queries, and from what state."""
    given = [(query, seen) for query in queries for at_s, seen in query.answers if seen.pid == old and at_s >= since_s]
    return {
        "old_answers": len(given),
        "stale_answers": sum(seen.version < query.known for query, seen in given),
    }


async def flood(client: Client, sends: int) -> None:
    """Has all flooders decide their share of the sends."""
    shares = [sends // FLOODERS + (number < sends % FLOODERS) for number in range(FLOODERS)]
    async with asyncio.TaskGroup() as tasks:
        for number, share in enumerate(shares):
            flooder = client.ref(Flooder, f"f{number}")
            tasks.create_task(flooder.ask(Flood(op=f"send-{number}", count=share, receivers=RECEIVERS)))


async def wait_relayed(bus: NatsBus, raw: RawLog) -> None:
    """Returns once the runtime's mailbox is empty and stays so for a moment."""
    stream = bus.subjects.mail_stream("act")
    empty = 0
    async with asyncio.timeout(EMPTY_TIMEOUT_S):
        while empty < 10:
            empty = 0 if (await raw.state(stream))["messages"] else empty + 1
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def running(url: str, log: Path) -> AsyncGenerator[tuple[Process, Who]]:
    """A process of the application that serves, and who it is; killed at the end of the block, stopped or not."""
    command = [sys.executable, "-P", str(paused_app.__file__), url, APP]
    with log.open("ab") as said:
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=said)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(READY_TIMEOUT_S):
            line = await process.stdout.readline()
        yield process, msgspec.json.decode(line, type=Who)
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
