"""Direct reads of streams: one message, or many in batches of which none can be lost unnoticed.

They go past JetStream's consumers, may be answered by any replica, and so never prove that a message is absent.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from nats.aio.msg import Msg

from regrow.bus.codec import encode
from regrow.bus.errors import ReadBroken, RequestTimeout
from regrow.bus.replies import ReplyInbox, status

READ_TIMEOUT_S = 30.0
READ_BATCH = 1_000
PAGE_BYTES = 4 * 1024 * 1024
"""A page ends with the message that reaches this size: a server cuts a connection that is slower than what it is to be sent."""
NARROW_BYTES = 1024 * 1024
"""Pages that must be smaller than this are read one at a time."""
PAGE_ATTEMPTS = 4
"""A page under which the connection breaks is asked for so often: the last is a single message where they are large."""
NARROW_S = 60.0
"""So long after the last break of the connection under a page the pages stay small."""

SEQUENCE = "Nats-Sequence"
SUBJECT = "Nats-Subject"
TIME_STAMP = "Nats-Time-Stamp"
_BEFORE = "Nats-Last-Sequence"
_PENDING = "Nats-Num-Pending"


class Page(NamedTuple):
    """A batch of messages, oldest first, and how many the server had left when it sent them."""

    messages: list[Msg]
    pending: int


class Pages:
    """Direct reads over one connection.

    How much the server keeps for a connection nobody can ask it. So where the connection breaks under a page, the next ones are
    a quarter as large for a minute, down to a single message.
    """

    def __init__(self, replies: ReplyInbox) -> None:
        self._replies = replies
        self._bytes_max = PAGE_BYTES
        self._broken_s = 0.0
        self._alone = asyncio.Semaphore()

    async def page(self, stream: str, subject: str, sequence: int, *, batch: int = READ_BATCH) -> Page:
        """Up to ``batch`` messages of a subject (wildcards allowed) from a sequence on; empty when there are none.

        It ends with the message that reaches ``PAGE_BYTES``, or less. Raises ``ReadBroken`` when a message was lost on its way
        or the connection broke again and again, ``RequestTimeout``, ``Unreachable``.
        """
        asked: dict[str, Any] = {"seq": sequence, "next_by_subj": subject, "batch": batch}
        for _ in range(PAGE_ATTEMPTS):
            bytes_max = self._page_bytes()
            async with self._alone if bytes_max < NARROW_BYTES else contextlib.nullcontext():
                messages, closing = await self._batch(stream, encode({**asked, "max_bytes": bytes_max}))
            if closing is not None:
                return whole_page(subject, messages, closing)
            self._narrow(bytes_max)
        raise ReadBroken(subject)

    async def last(self, stream: str, subject: str) -> Msg | None:
        """The last message of a subject, None when there is none. Raises ``RequestTimeout``, ``Unreachable``."""
        return await self._one(f"{stream}.{subject}", b"")

    async def at(self, stream: str, sequence: int) -> Msg | None:
        """The message of a sequence, None when there is none (any more). Raises ``RequestTimeout``, ``Unreachable``."""
        return await self._one(stream, encode({"seq": sequence}))

    def _page_bytes(self) -> int:
        if asyncio.get_running_loop().time() - self._broken_s > NARROW_S:
            self._bytes_max = PAGE_BYTES
        return self._bytes_max

    def _narrow(self, broken_bytes: int) -> None:
        """The connection broke under a page of this size; of many that broke together one counts."""
        self._broken_s = asyncio.get_running_loop().time()
        self._bytes_max = min(self._bytes_max, max(broken_bytes // 4, 1))

    async def _one(self, what: str, body: bytes) -> Msg | None:
        message = await self._replies.request(f"$JS.API.DIRECT.GET.{what}", body, timeout_s=READ_TIMEOUT_S)
        code = status(message)
        if code is None:
            return message
        if code == "404":
            return None
        raise ReadBroken(what)

    async def _batch(self, stream: str, body: bytes) -> tuple[list[Msg], Msg | None]:
        """The messages of a batch and the one without data that closes it; None when the connection broke before."""
        page: list[Msg] = []
        end: asyncio.Future[Msg | None] = asyncio.get_running_loop().create_future()

        def receive(message: Msg) -> None:
            if status(message) is None:
                page.append(message)
            elif not end.done():
                end.set_result(message)

        def lose() -> None:
            if not end.done():
                end.set_result(None)

        api = f"$JS.API.DIRECT.GET.{stream}"
        async with self._replies.listening(receive, lose) as reply:
            await self._replies.send(api, body, reply)
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    return page, await end
            except TimeoutError:
                raise RequestTimeout(api, READ_TIMEOUT_S) from None


def whole_page(subject: str, messages: list[Msg], closing: Msg) -> Page:
    """The page of a batch that was closed. Raises ``ReadBroken`` when one of its messages was lost on its way."""
    if status(closing) == "404" and not messages:
        return Page([], 0)
    if not is_whole(messages, closing):
        raise ReadBroken(subject)
    return Page(messages, int((closing.headers or {})[_PENDING]))


def is_whole(page: Sequence[Msg], closing: Msg) -> bool:
    """Whether no message of a batch was lost on its way: each names the one before it, and the closing 204 the last."""
    if status(closing) != "204" or not page:
        return False
    before = 0
    for message in page:
        headers = message.headers or {}
        if int(headers[_BEFORE]) != before:
            return False
        before = int(headers[SEQUENCE])
    return int((closing.headers or {})[_BEFORE]) == before


def sequence_of(message: Msg) -> int:
    """Under which sequence the stream holds a message that was read."""
    return int((message.headers or {})[SEQUENCE])


def stored_ns(message: Msg) -> int:
    """When the server stored a message that was read, nanoseconds since 1970 of its clock."""
    return time_ns((message.headers or {})[TIME_STAMP])


def time_ns(text: str) -> int:
    """Nanoseconds since 1970 of the server's RFC 3339 time, whose fraction has up to nine digits and no trailing zeros."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0") or "0")
