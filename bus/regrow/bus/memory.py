"""A bus inside one process, for tests and experiments: the promises of ``port`` without a server, forgotten at the end.

Several systems may share one ``MemoryBus``, as several nodes share a server: a later ``mail.serve`` takes the shards over.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from regrow.bus.claims import MemoryClaims
from regrow.bus.errors import NoResponder, RequestTimeout
from regrow.bus.headers import Headers
from regrow.bus.memory_cache import MemoryCache
from regrow.bus.memory_dead_letters import MemoryDeadLetters
from regrow.bus.memory_log import MemoryLog, check_size
from regrow.bus.memory_mail import MemoryMail
from regrow.bus.port import Request
from regrow.bus.subjects import Subjects, check_subject

_Serving = tuple[str, str, Callable[[Request], None]]
"""Subject, queue and handler."""


class MemoryBus:
    """One application's bus in this process."""

    def __init__(self, app: str) -> None:
        self.subjects = Subjects(app)
        self.epoch = secrets.token_hex(6)
        self.claims = MemoryClaims()
        self.log = MemoryLog(self.claims)
        self.mail = MemoryMail(self.claims)
        self.dead = MemoryDeadLetters(self.claims)
        self.cache = MemoryCache()
        self._serving: list[_Serving] = []
        self._inboxes = 0

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        """Sends to whoever listens now."""
        check_subject(subject)
        check_size(body, headers)
        self._route(Request(subject, bytes(body), dict(headers or {}), ""))

    async def request(self, subject: str, body: bytes, headers: Headers | None = None, *, timeout_s: float) -> Request:
        """The first answer. Raises ``NoResponder``, ``RequestTimeout``, ``PayloadTooLarge``."""
        check_subject(subject)
        check_size(body, headers)
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
