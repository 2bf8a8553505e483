"""A bus inside one process, for tests and experiments: the promises of ``port`` without a server, forgotten at the end.

Several systems may share one ``MemoryBus``, as several nodes share a server: a later ``mail.serve`` takes the shards over.
"""

import asyncio
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from regrow.bus.codec import has_id
from regrow.bus.errors import MailboxFull, NoResponder, PayloadTooLarge, RequestTimeout, StaleWriter
from regrow.bus.headers import MESSAGE_ID, Headers, fence, letter, size
from regrow.bus.port import Receive, Request, Stored
from regrow.bus.streams import DEDUPLICATION_S, MAILBOX_MESSAGES_MAX
from regrow.bus.subjects import SHARDS, Address, Box, Subjects, check_address, check_subject, log_number

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
        check_address(address)
        _check_size(data, fence(after, rollup=rollup))
        await asyncio.sleep(0)
        records = self._records[address]
        last = records[-1].sequence if records else 0
        if last != after:
            return _own(records, rid, after, last)
        number = log_number(address)
        self._last[number] += 1
        if rollup:
            records.clear()
        records.append(Stored(self._last[number], time.time_ns(), bytes(data)))
        return self._last[number]

    async def read(self, address: Address) -> list[Stored]:
        """All records of this log, oldest first; see ``EventLog.read``."""
        check_address(address)
        await asyncio.sleep(0)
        return list(self._records[address])

    def count(self) -> int:
        """How many records all logs hold."""
        return sum(len(records) for records in self._records.values())


def _own(records: list[Stored], rid: str, after: int, last: int) -> int:
    """Where the writer's own record is, which it appends again; else it is stale."""
    for record in reversed(records):
        if record.sequence > after and has_id(record.data, rid):
            return record.sequence
    raise StaleWriter(after, last)


class _Letter(NamedTuple):
    """A message that waits in a mailbox."""

    box: Box
    address: Address
    sequence: int
    headers: Headers
    body: bytes


class _Claim:
    """One takeover of all shards, by whoever serves."""

    def __init__(self, receive: Receive, lost: Callable[[int], None]) -> None:
        self.receive = receive
        self.lost = lost


class MemoryDelivery:
    """A message out of a mailbox in memory."""

    def __init__(self, letter: _Letter, settle: Callable[[_Letter], None]) -> None:
        self.box: Box = letter.box
        self.address = letter.address
        self.sequence = letter.sequence
        self.headers = letter.headers
        self.body = letter.body
        self._letter = letter
        self._settle = settle

    async def ack(self) -> None:
        self._settle(self._letter)


class MemoryMail:
    """The two mailboxes, each a dict from sequence to message."""

    def __init__(self) -> None:
        self._waiting: dict[Box, dict[int, _Letter]] = {"in": {}, "act": {}}
        self._counts: Counter[Address] = Counter()
        self._last: dict[Box, int] = {"in": 0, "act": 0}
        self._known: dict[str, tuple[int, float]] = {}
        self._claim: _Claim | None = None

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
        check_address(address)
        given = letter(box, headers, message_id)
        _check_size(body, given)
        if box == "in" and self._counts[address] >= MAILBOX_MESSAGES_MAX:
            raise MailboxFull(str(address))
        if message_id is not None and (earlier := self._earlier(message_id)) is not None:
            return earlier
        self._last[box] += 1
        message = _Letter(box, address, self._last[box], given, bytes(body))
        if message_id is not None:
            self._known[message_id] = message.sequence, time.monotonic()
        self._waiting[box][message.sequence] = message
        self._counts[address] += box == "in"
        if self._claim is not None:
            self._deliver(self._claim, message)
        return message.sequence

    @asynccontextmanager
    async def serve(
        self, receive: Receive, lost: Callable[[int], None]
    ) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """Delivers the mail of all shards; see ``Mail.serve``."""
        mine = [_Claim(receive, lost)]

        async def take_over() -> None:
            earlier, self._claim = self._claim, _Claim(receive, lost)
            if earlier is not None and earlier not in mine:
                for shard in range(SHARDS):
                    earlier.lost(shard)
            mine[:] = [self._claim]
            for message in (*self._waiting["in"].values(), *self._waiting["act"].values()):
                self._deliver(self._claim, message)

        await take_over()
        try:
            yield take_over
        finally:
            if self._claim in mine:
                self._claim = None

    def waiting(self, box: Box) -> list[bytes]:
        """The bodies of all messages in a mailbox, delivered or not, for whoever looks."""
        return [message.body for message in self._waiting[box].values()]

    def _deliver(self, claim: _Claim, message: _Letter) -> None:
        def settle(letter: _Letter) -> None:
            if self._claim is claim and self._waiting[letter.box].pop(letter.sequence, None) is not None:
                self._counts[letter.address] -= letter.box == "in"

        def hand_over() -> None:
            if self._claim is claim:
                claim.receive(MemoryDelivery(message, settle))

        asyncio.get_running_loop().call_soon(hand_over)

    def _earlier(self, message_id: str) -> int | None:
        """The sequence of a message with this id within the de-duplication window."""
        now = time.monotonic()
        for known, (_, posted) in list(self._known.items()):
            if now - posted <= DEDUPLICATION_S:
                break
            del self._known[known]
        sequence, _ = self._known.get(message_id, (None, 0.0))
        return sequence


_Serving = tuple[str, str, Callable[[Request], None]]
"""Subject, queue and handler."""


class MemoryBus:
    """One application's bus in this process."""

    def __init__(self, app: str) -> None:
        self.subjects = Subjects(app)
        self.epoch = secrets.token_hex(6)
        self.log = MemoryLog()
        self.mail = MemoryMail()
        self._serving: list[_Serving] = []
        self._inboxes = 0
        self.dead_letters: dict[str, tuple[Address, bytes]] = {}
        """Dead letters by their id, for whoever looks."""

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        """Sends to whoever listens now."""
        check_subject(subject)
        _check_size(body, headers)
        self._route(Request(subject, bytes(body), dict(headers or {}), ""))

    async def request(self, subject: str, body: bytes, headers: Headers | None = None, *, timeout_s: float) -> Request:
        """The first answer. Raises ``NoResponder``, ``RequestTimeout``, ``PayloadTooLarge``."""
        check_subject(subject)
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

    async def count_records(self) -> int:
        """How many records the logs hold now."""
        return self.log.count()

    async def bury(self, address: Address, body: bytes, *, message_id: str) -> None:
        """Keeps a dead letter."""
        check_address(address)
        _check_size(body, {MESSAGE_ID: message_id})
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
            asyncio.get_running_loop().call_soon(self._hand_over, (subject, queue, handler), request)
        return found

    def _hand_over(self, entry: _Serving, request: Request) -> None:
        if entry in self._serving:
            entry[2](request)


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject fits a pattern with ``*`` (one token) and ``>`` (one or more at the end)."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > index
        if index >= len(tokens) or token not in ("*", tokens[index]):
            return False
    return len(wanted) == len(tokens)
