"""The event log on JetStream: fenced appends and batched reads.

Each append is one publish through the shared reply inbox. Its outcome may stay unknown (a lost acknowledgement, a server that
restarts); then the same bytes go out again under the same fence until the server decides. A read never proves that a record is
absent: only the record's id found in the log, or an accepted append, proves anything.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus.api import (
    APPEND_IN_FLIGHT,
    LIMIT_REACHED,
    NO_ROOM,
    WRONG_LAST_SEQUENCE,
    WRONG_LAST_SEQUENCE_UNKNOWN,
    ApiError,
    PubAck,
    Refusal,
)
from regrow.bus.codec import decode, encode, has_id
from regrow.bus.errors import (
    BusError,
    NoResponder,
    PayloadTooLarge,
    ReadBroken,
    RequestTimeout,
    StaleWriter,
    StoreFull,
    Unreachable,
)
from regrow.bus.headers import ROLLUP, Headers, fence, size
from regrow.bus.port import Stored
from regrow.bus.replies import ReplyInbox, status
from regrow.bus.subjects import Address, Subjects, log_number

_log = structlog.get_logger(__name__)

APPEND_TIMEOUT_S = 10.0
"""After this long without an answer an append is sent again; a server under fsync load may take seconds."""
RESEND_PAUSE_S = 0.25
READ_TIMEOUT_S = 30.0
READ_ATTEMPTS = 5
"""A read changes nothing, so one that broke is begun again; a restarting server takes about a second."""
READ_PAUSE_S = 0.5
READ_BATCH = 1_000
READERS_PER_STREAM = 2
"""Recoveries at once per stream: a cold read blocks the appends of its neighbours."""

_SEQUENCE = "Nats-Sequence"
_BEFORE = "Nats-Last-Sequence"
_PENDING = "Nats-Num-Pending"
_LOST = frozenset({WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_UNKNOWN, APPEND_IN_FLIGHT})


class JetStreamLog:
    """The logs of one application on one connection."""

    def __init__(self, client: Client, replies: ReplyInbox, subjects: Subjects) -> None:
        self._client = client
        self._replies = replies
        self._subjects = subjects
        self._reading: dict[int, asyncio.Semaphore] = {}

    async def append(self, address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        """The sequence under which the record was stored; see ``EventLog.append``."""
        subject = self._subjects.log(address)
        headers = fence(after, rollup=rollup)
        check_size(self._client, data, headers)
        unknown = False
        while True:
            try:
                ack = await publish_acked(self._replies, subject, data, headers, timeout_s=APPEND_TIMEOUT_S)
                if ack.error is None:
                    return ack.seq
                if unknown or ack.error.err_code in _LOST:
                    stored = await self._decide(address, rid, after)
                    if stored is not None:
                        return stored
                if ack.error.err_code not in _LOST:
                    raise refused(subject, ack.error)
            except (RequestTimeout, NoResponder, Unreachable, ReadBroken) as error:
                if self._replies.closed:
                    raise
                unknown = True
                _log.warning("append is undecided, sending it again", actor=str(address), error=str(error))
            await asyncio.sleep(RESEND_PAUSE_S)

    async def read(self, address: Address) -> list[Stored]:
        """All records of this log, oldest first; see ``EventLog.read``."""
        number = log_number(address)
        subject = self._subjects.log(address)
        limit = self._reading.setdefault(number, asyncio.Semaphore(READERS_PER_STREAM))
        async with limit:
            for _ in range(1, READ_ATTEMPTS):
                try:
                    return await self._read(number, subject)
                except (ReadBroken, RequestTimeout, Unreachable) as error:
                    if self._replies.closed:
                        raise
                    _log.warning("read is broken, reading again", actor=str(address), error=str(error))
                await asyncio.sleep(READ_PAUSE_S)
            return await self._read(number, subject)

    async def _decide(self, address: Address, rid: str, after: int) -> int | None:
        """After a refusal: my record's sequence if it is there, None when the log has not moved; else I am stale."""
        records = await self.read(address)
        for record in reversed(records):
            if record.sequence > after and has_id(record.data, rid):
                return record.sequence
        last = records[-1].sequence if records else 0
        if last == after:
            return None
        raise StaleWriter(after, last)

    async def _read(self, number: int, subject: str) -> list[Stored]:
        """Pages of one log until the server says that nothing is pending."""
        records: list[Stored] = []
        while True:
            page, closing = await self._page(number, subject, records[-1].sequence + 1 if records else 1)
            if status(closing) == "404" and not records:
                return records
            if not is_whole(page, closing):
                raise ReadBroken(subject)
            records = from_last_rollup(records, page)
            if closing.headers and int(closing.headers[_PENDING]) == 0:
                return records

    async def _page(self, number: int, subject: str, sequence: int) -> tuple[list[Msg], Msg]:
        """Up to ``READ_BATCH`` records from a sequence on, and the message that closes them."""
        page: list[Msg] = []
        end: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def receive(message: Msg) -> None:
            if status(message) is None:
                page.append(message)
            elif not end.done():
                end.set_result(message)

        def lose() -> None:
            if not end.done():
                end.set_exception(ReadBroken(subject))

        body = encode({"seq": sequence, "next_by_subj": subject, "batch": READ_BATCH})
        api = f"$JS.API.DIRECT.GET.{self._subjects.log_stream(number)}"
        async with self._replies.listening(receive, lose) as reply:
            await self._replies.send(api, body, reply)
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    return page, await end
            except TimeoutError:
                raise RequestTimeout(api, READ_TIMEOUT_S) from None


def is_whole(page: Sequence[Msg], closing: Msg) -> bool:
    """Whether no record of a batch was lost on its way: each names the one before it, and the closing 204 the last."""
    if status(closing) != "204" or not page:
        return False
    before = 0
    for message in page:
        headers = message.headers or {}
        if int(headers[_BEFORE]) != before:
            return False
        before = int(headers[_SEQUENCE])
    return int((closing.headers or {})[_BEFORE]) == before


def from_last_rollup(earlier: list[Stored], page: Sequence[Msg]) -> list[Stored]:
    """The records of all pages so far, without those that a roll-up between or within the pages has replaced."""
    records = earlier
    for message in page:
        if message.headers and ROLLUP in message.headers:
            records = []
        records.append(_stored(message))
    return records


def _stored(message: Msg) -> Stored:
    headers = message.headers or {}
    return Stored(int(headers[_SEQUENCE]), time_ns(headers["Nats-Time-Stamp"]), message.data)


def time_ns(text: str) -> int:
    """Nanoseconds since 1970 of the server's RFC 3339 time, whose fraction has up to nine digits and no trailing zeros."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0") or "0")


def check_size(client: Client, data: bytes, headers: Headers | None) -> None:
    """Raises ``PayloadTooLarge`` for what would make the server drop the connection: it counts body and headers."""
    total = len(data) + size(headers)
    if total > client.max_payload:
        raise PayloadTooLarge(total, client.max_payload)


async def publish_acked(
    replies: ReplyInbox, subject: str, data: bytes, headers: Headers | None, *, timeout_s: float
) -> PubAck:
    """The stream's answer to a publish, refusals included."""
    message = await replies.request(subject, data, headers, timeout_s=timeout_s)
    return decode(message.data, PubAck, "acknowledgement")


def refused(subject: str, refusal: Refusal, full: Callable[[str], BusError] = StoreFull) -> BusError:
    """The error for a refused publish: ``full`` when the stream's limit is reached, ``StoreFull`` for the server's."""
    if refusal.err_code == LIMIT_REACHED:
        return full(subject)
    if refusal.err_code in NO_ROOM:
        return StoreFull(subject)
    return ApiError(f"a publish to {subject}", refusal)
