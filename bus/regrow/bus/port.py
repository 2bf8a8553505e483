"""What the runtime asks of a bus: an event log, two mailboxes, and plain request/reply.

``NatsBus`` is the bus; ``MemoryBus`` keeps the same promises inside one process and forgets all when it ends. One suite of
contract tests runs on both. Everything here belongs to one event loop.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from regrow.bus.headers import Headers
from regrow.bus.subjects import Address, Box, Subjects


class Stored(msgspec.Struct, frozen=True):
    """One record of a log as the server keeps it."""

    sequence: int
    time_ns: int
    """The server's clock when it stored the record, nanoseconds since 1970."""
    data: bytes


class EventLog(Protocol):
    """One append-only log per actor."""

    async def append(self, address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        """The sequence under which the record was stored.

        The record must carry ``rid``. It is stored only when ``after`` is the last sequence of this log, and exactly once,
        also when an acknowledgement is lost: the same bytes are sent again under the same fence until the outcome is
        known. ``rollup`` removes all earlier records of this log in the same step.

        Raises ``StaleWriter`` when somebody else's record is there, ``PayloadTooLarge`` before anything is sent, and
        ``StoreFull`` when the server has no room.
        """
        ...

    async def read(self, address: Address) -> list[Stored]:
        """All records of this log, oldest first, from its last roll-up on; empty for an actor that never wrote."""
        ...


class Delivery(Protocol):
    """A message out of a mailbox; it comes again after a takeover until it is acknowledged."""

    @property
    def box(self) -> Box: ...
    @property
    def address(self) -> Address: ...
    @property
    def sequence(self) -> int: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def body(self) -> bytes: ...

    async def ack(self) -> None:
        """Takes the message out of the mailbox. Without effect when the shard has been taken over meanwhile."""
        ...


Receive = Callable[[Delivery], None]


class Mail(Protocol):
    """Durable mailboxes, served by shard."""

    async def post(
        self,
        box: Box,
        address: Address,
        body: bytes,
        headers: Headers | None = None,
        *,
        message_id: str | None = None,
    ) -> int:
        """The sequence of the stored message. ``message_id`` (``act`` only) drops repetitions within two minutes.

        Raises ``MailboxFull`` (``in`` only) and ``PayloadTooLarge``.
        """
        ...

    def serve(
        self, receive: Receive, lost: Callable[[int], None]
    ) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """Takes all shards over from whoever had them and delivers their mail, in order, what is not acknowledged first.

        Within one service a message is delivered once, also through broken connections and restarts of the server;
        it comes again only when its acknowledgement was lost. ``lost(shard)`` is called when another node has taken that
        shard. The value is a coroutine function that takes all shards over once more, also from another node, and
        delivers everything again that is not acknowledged; acknowledgements of earlier deliveries then have no effect.

        What ends the service is raised in the task that entered the block: an error of ``receive`` or ``lost``, and
        ``Unreachable`` when the connection is closed for good.
        """
        ...


class Request(msgspec.Struct, frozen=True):
    """A core message to a served subject; ``reply`` is empty when nobody waits."""

    subject: str
    body: bytes
    headers: Headers
    reply: str


class Bus(Protocol):
    """One application's bus."""

    @property
    def subjects(self) -> Subjects: ...
    @property
    def log(self) -> EventLog: ...
    @property
    def mail(self) -> Mail: ...
    @property
    def epoch(self) -> str:
        """Random, made when the streams were created: part of every relay's id, so that ids are neither guessed nor reused."""
        ...

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        """Sends to whoever listens now; nobody may."""
        ...

    async def request(self, subject: str, body: bytes, headers: Headers | None = None, *, timeout_s: float) -> Request:
        """The first answer. Raises ``NoResponder`` at once when nobody serves the subject, ``RequestTimeout`` later."""
        ...

    async def count_records(self) -> int:
        """How many records the application's logs hold now, those that a snapshot has replaced not counted."""
        ...

    async def bury(self, address: Address, body: bytes, *, message_id: str) -> None:
        """Stores a dead letter of this actor; the same id is stored once within the de-duplication window."""
        ...

    def serve(
        self, subject: str, handler: Callable[[Request], None], *, queue: str = ""
    ) -> AbstractAsyncContextManager[None]:
        """Calls the handler with each message to the subject; within one queue each message goes to one server."""
        ...

    def expect_reply(self, on_reply: Callable[[Request], None]) -> AbstractAsyncContextManager[str]:
        """A fresh reply subject; what arrives there while the block runs is given to the callback."""
        ...
