"""A bus inside one process, for tests and experiments: the promises of ``port`` without a server, forgotten at the end.

Several systems may share one ``MemoryBus``, as several nodes share a server: a later ``mail.serve`` takes the shards over.
"""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from regrow.bus.errors import MailboxFull, NoResponder, PayloadTooLarge, RequestTimeout, StaleWriter
from regrow.bus.headers import Headers, size
from regrow.bus.port import Receive, Request, Stored
from regrow.bus.streams import MAILBOX_MESSAGES_MAX
from regrow.bus.subjects import SHARDS, Address, Box, Subjects, log_number

PAYLOAD_BYTES_MAX = 1024 * 1024
"""The server's own default."""


def _check_size(body: bytes, headers: Headers | None) -> None:
    total = len(body) + size(headers)
    if total > PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(total, PAYLOAD_BYTES_MAX)


class MemoryLog:
    """The event logs, in a dict."""

    def __init__(self) -> None:
        self._records: defaultdict[Address, list[Stored]] = defaultdict(list)
        self._last: defaultdict[int, int] = defaultdict(int)

    async def append(self, address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        """The sequence under which the record was stored; see ``EventLog.append``."""
        _check_size(data, None)
        await asyncio.sleep(0)
        records = self._records[address]
        last = records[-1].sequence if records else 0
        if last != after:
            raise StaleWriter(after, last)
        number = log_number(address)
        self._last[number] += 1
        if rollup:
            records.clear()
        records.append(Stored(self._last[number], time.time_ns(), bytes(data)))
        return self._last[number]

    async def read(self, address: Address) -> list[Stored]:
        """All records of this log, oldest first; see ``EventLog.read``."""
        await asyncio.sleep(0)
        return list(self._records[address])


class MemoryDelivery:
    """A message out of a mailbox in memory."""

    def __init__(self, box: Box, address: Address, sequence: int, headers: Headers, body: bytes) -> None:
        self.box: Box = box
        self.address = address
        self.sequence = sequence
        self.headers = headers
        self.body = body
        self.ack_of: Callable[[MemoryDelivery], None] | None = None

    async def ack(self) -> None:
        if self.ack_of is not None:
            self.ack_of(self)


class MemoryMail:
    """The two mailboxes, in two dicts from sequence to message."""

    def __init__(self) -> None:
        self._waiting: dict[Box, dict[int, MemoryDelivery]] = {"in": {}, "act": {}}
        self._last: dict[Box, int] = {"in": 0, "act": 0}
        self._ids: set[str] = set()
        self._owner: _Owner | None = None

    async def post(
        self,
        box: Box,
        address: Address,
        body: bytes,
        headers: Headers | None = None,
        *,
        message_id: str | None = None,
    ) -> int:
        """The sequence of the stored message; see ``Mail.post``."""
        _check_size(body, headers)
        if box == "in" and self._count(address) >= MAILBOX_MESSAGES_MAX:
            raise MailboxFull(str(address))
        if message_id is not None:
            if message_id in self._ids:
                return self._last[box]
            self._ids.add(message_id)
        self._last[box] += 1
        message = MemoryDelivery(box, address, self._last[box], dict(headers or {}), bytes(body))
        self._waiting[box][message.sequence] = message
        if self._owner is not None:
            self._deliver(self._owner, message)
        return message.sequence

    @asynccontextmanager
    async def serve(
        self, receive: Receive, lost: Callable[[int], None]
    ) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """Delivers the mail of all shards; see ``Mail.serve``."""
        mine = _Owner(receive, lost)

        async def take_over() -> None:
            if self._owner is not None and self._owner.receive is not receive:
                self._owner.lose()
            self._owner = mine
            for message in self._all():
                self._deliver(mine, message)

        await take_over()
        try:
            yield take_over
        finally:
            if self._owner is mine:
                self._owner = None

    def _deliver(self, owner: "_Owner", message: MemoryDelivery) -> None:
        copy = MemoryDelivery(message.box, message.address, message.sequence, message.headers, message.body)

        def settle(delivery: MemoryDelivery) -> None:
            if self._owner is owner:
                self._waiting[delivery.box].pop(delivery.sequence, None)

        copy.ack_of = settle
        asyncio.get_running_loop().call_soon(owner.receive, copy)

    def _all(self) -> Iterator[MemoryDelivery]:
        for box in self._waiting.values():
            yield from box.values()

    def _count(self, address: Address) -> int:
        return sum(1 for message in self._waiting["in"].values() if message.address == address)


class _Owner:
    """Whoever serves the shards now."""

    def __init__(self, receive: Receive, lost: Callable[[int], None]) -> None:
        self.receive = receive
        self._lost = lost

    def lose(self) -> None:
        for shard in range(SHARDS):
            self._lost(shard)


class MemoryBus:
    """One application's bus in this process."""

    def __init__(self, app: str) -> None:
        self.subjects = Subjects(app)
        self.epoch = secrets.token_hex(6)
        self.log = MemoryLog()
        self.mail = MemoryMail()
        self._serving: list[tuple[str, str, Callable[[Request], None]]] = []
        self._inboxes = 0
        self.dead_letters: dict[str, tuple[Address, bytes]] = {}
        """Dead letters by their id, for whoever looks."""

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        """Sends to whoever listens now."""
        _check_size(body, headers)
        self._route(Request(subject, bytes(body), dict(headers or {}), ""))

    async def request(self, subject: str, body: bytes, headers: Headers | None = None, *, timeout_s: float) -> Request:
        """The first answer. Raises ``NoResponder``, ``RequestTimeout``, ``PayloadTooLarge``."""
        _check_size(body, headers)
        answer: asyncio.Future[Request] = asyncio.get_running_loop().create_future()

        def settle(reply: Request) -> None:
            if not answer.done():
                answer.set_result(reply)

        async with self.expect_reply(settle) as inbox:
            if not self._route(Request(subject, bytes(body), dict(headers or {}), inbox)):
                raise NoResponder(subject)
            try:
                async with asyncio.timeout(timeout_s):
                    return await answer
            except TimeoutError:
                raise RequestTimeout(subject, timeout_s) from None

    async def bury(self, address: Address, body: bytes, *, message_id: str) -> None:
        """Keeps a dead letter."""
        _check_size(body, None)
        self.dead_letters.setdefault(message_id, (address, bytes(body)))

    @asynccontextmanager
    async def serve(self, subject: str, handler: Callable[[Request], None], *, queue: str = "") -> AsyncGenerator[None]:
        """Calls the handler with each message to the subject for as long as the block runs."""
        entry = (subject, queue, handler)
        self._serving.append(entry)
        try:
            yield
        finally:
            self._serving.remove(entry)

    @asynccontextmanager
    async def expect_reply(self, on_reply: Callable[[Request], None]) -> AsyncGenerator[str]:
        """A fresh reply subject for as long as the block runs."""
        self._inboxes += 1
        subject = f"_INBOX.memory.{self._inboxes}"
        async with self.serve(subject, on_reply):
            yield subject

    def _route(self, request: Request) -> bool:
        """Hands the message to every matching server, one per queue; whether there was any."""
        queues: set[str] = set()
        found = False
        for subject, queue, handler in list(self._serving):
            if not matches(subject, request.subject) or (queue and queue in queues):
                continue
            queues.add(queue)
            found = True
            asyncio.get_running_loop().call_soon(handler, request)
        return found


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject fits a pattern with ``*`` (one token) and ``>`` (one or more at the end)."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > index
        if index >= len(tokens) or token not in ("*", tokens[index]):
            return False
    return len(wanted) == len(tokens)
