"""What the runtime asks of a bus: event logs, two mailboxes, dead letters, and plain request/reply.

``NatsBus`` is the bus; ``MemoryBus`` keeps the same promises inside one process and forgets all when it ends. One suite of
contract tests runs on both. Everything here belongs to one event loop.

What does not fit one message of the server is put aside in an object store and a reference sent in its place (a claim check):
``append``, ``save`` and ``post`` do that by themselves, ``read``, ``saved`` and ``fetch`` undo it. ``PayloadTooLarge`` is
raised for what exceeds ``CLAIM_BYTES_MAX`` too.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from regrow.bus.cache import Cache
from regrow.bus.headers import Headers
from regrow.bus.subjects import Address, Box, Subjects

CLAIM_BYTES_MAX = 64 * 1024 * 1024
"""The largest record, snapshot or message body that is put aside: what is larger is an error, for it has to be read whole."""


class Stored(msgspec.Struct, frozen=True):
    """One record of a log as the server keeps it."""

    sequence: int
    time_ns: int
    """The server's clock when it stored the record, nanoseconds since 1970."""
    data: bytes


class Followed(msgspec.Struct, frozen=True):
    """One record of any actor's log, for whoever reads many logs."""

    stream: int
    """Which of the log streams; sequences rise within one stream."""
    address: Address
    stored: Stored


Attempted = Callable[[int | None], None]


class EventLog(Protocol):
    """One append-only log per actor."""

    async def append(self, address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        """The sequence under which the record was stored.

        The record must carry ``rid``. It is stored only when ``after`` is the last sequence of this log, and exactly once,
        also when an acknowledgement is lost: the same bytes are sent again under the same fence until the outcome is
        known. ``rollup`` removes all earlier records of this log in the same step, and what had been put aside for them.

        Raises ``StaleWriter`` when somebody else's record is there, ``PayloadTooLarge`` before anything is sent, and
        ``StoreFull`` when the server has no room.
        """
        ...

    def attempt(self, address: Address, data: bytes, *, rid: str, after: int, done: Attempted) -> None:
        """One attempt at ``append``, under way when this returns, for whoever has no task to wait in.

        ``done`` is called later, once: with the sequence, or with None, and then ``append`` with the same arguments finds out
        what became of it, or says what stands in its way.
        """
        ...

    async def read(self, address: Address, after: int = 0) -> list[Stored]:
        """All records of this log behind that sequence, oldest first, from its last roll-up on; empty when there are none."""
        ...

    async def save(self, address: Address, data: bytes, covers: int) -> None:
        """Keeps a snapshot beside a log that is not rolled up; ``covers`` is the last sequence that it stands for.

        Only a cache: an older one never replaces a newer one for a reader, and losing it costs only time.
        """
        ...

    async def saved(self, address: Address) -> Stored | None:
        """The last snapshot that was kept beside the log; its ``sequence`` is the last one that it covers."""
        ...

    async def addresses(self, kind: str | None = None) -> list[Address]:
        """Every actor that has a log, or every one of a kind, in no order. One that was deleted still has its tombstone."""
        ...

    def follow(self, kind: str, after: Mapping[int, int]) -> AsyncIterator[Followed]:
        """The records of all actors of a kind, those of each stream in order, then those to come, without an end.

        ``after`` holds for each stream the last sequence that was seen. Records that a roll-up has removed are not seen.
        """
        ...

    async def forget(self, address: Address) -> None:
        """Removes what is kept beside the log: snapshot and claims, those of its last record excepted."""
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
    def body(self) -> bytes:
        """The message's body; empty while it is not here, see ``fetch``."""
        ...

    @property
    def suspect(self) -> bool:
        """Whether it was already waiting when its shard was taken from a node that did not let go of it by itself, and so may
        be what that node died of."""
        ...

    def shed(self) -> None:
        """Forgets the body until ``fetch`` gets it again: what waits behind many others should not cost memory. The headers
        that tell an order of the runtime from a message stay."""
        ...

    async def fetch(self) -> bool:
        """Makes headers and body be here, from the mailbox or from where a large one was put aside; at no cost where they are.

        False when the message is not in its mailbox any more: somebody else has acknowledged it.
        """
        ...

    async def ack(self) -> None:
        """Takes the message out of the mailbox. Without effect when the shard has been taken over meanwhile."""
        ...


Receive = Callable[[Delivery], None]


class Holding(Protocol):
    """The shards that this node serves."""

    async def take_over(self) -> None:
        """Takes all shards over once more, also from another node, and delivers everything again that is not acknowledged;
        acknowledgements of earlier deliveries then have no effect."""
        ...

    async def holds(self, shard: int) -> bool:
        """Whether this node held the shard at some moment within the last ``LEASE_S``: a look at the claim proves it for so
        long, counted from before the look, and costs a round trip only when the last one is older."""
        ...


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

        Raises ``MailboxFull`` (``in`` only), ``PayloadTooLarge``, and ``AccessDenied`` when these credentials may not
        publish there.
        """
        ...

    async def schedule(
        self, address: Address, timer: str, body: bytes, headers: Headers | None = None, *, at_ns: int
    ) -> None:
        """Puts a message into the actor's ``act`` mailbox at that time of the server's clock (nanoseconds since 1970; at once
        when it is past). No process is held meanwhile. The same ``timer`` again replaces the earlier one; one that has fired
        may fire again. Raises ``PayloadTooLarge``.
        """
        ...

    async def unschedule(self, address: Address, timer: str) -> None:
        """Removes a scheduled message, or all of the actor with ``*``; without effect when it has fired or never was."""
        ...

    async def purge(self, address: Address) -> None:
        """Removes all mail of an actor, its scheduled messages, and what was put aside for them."""
        ...

    def serve(self, receive: Receive, lost: Callable[[int], None]) -> AbstractAsyncContextManager[Holding]:
        """Takes all shards over from whoever had them and delivers their mail, in order, what is not acknowledged first.

        Within one service a message is delivered once, also through broken connections and restarts of the server;
        it comes again only when its acknowledgement was lost. ``lost(shard)`` is called when another node has taken that
        shard.

        What ends the service is raised in the task that entered the block: an error of ``receive`` or ``lost``, and
        ``Unreachable`` when the connection is closed for good.
        """
        ...


class Buried(msgspec.Struct, frozen=True):
    """A dead letter as the server keeps it."""

    address: Address
    stored: Stored
    """Its ``sequence`` names the dead letter."""
    aside: bool = False
    """Whether its body was put aside, and these are the bytes that stand in its place."""


class DeadLetters(Protocol):
    """Messages that were given up, with their cause, until somebody drops them."""

    async def bury(self, address: Address, body: bytes, *, message_id: str, brief: bytes = b"") -> None:
        """Stores a dead letter of this actor; the same id is stored once within the de-duplication window.

        Where the body does not fit a message it is put aside, and ``brief`` stands in its place. Raises ``PayloadTooLarge``
        when there is no ``brief``, or the body exceeds ``CLAIM_BYTES_MAX``.
        """
        ...

    async def find(
        self, kind: str | None = None, key: str | None = None, *, after: int = 0, limit: int = 1_000
    ) -> list[Buried]:
        """Dead letters of everybody, of a kind, or of one actor, oldest first, those behind a sequence, at most ``limit``.

        ``key`` needs ``kind``. Of one whose body was put aside only the brief is given.
        """
        ...

    async def get(self, sequence: int) -> Buried | None:
        """One dead letter, whole; None when there is none of that sequence (any more).

        Where what was put aside is lost, its brief, still ``aside``.
        """
        ...

    async def drop(self, sequence: int) -> bool:
        """Removes a dead letter for good; False when it was not there."""
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
    def dead(self) -> DeadLetters: ...
    @property
    def cache(self) -> Cache: ...
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

    def serve(
        self, subject: str, handler: Callable[[Request], None], *, queue: str = ""
    ) -> AbstractAsyncContextManager[None]:
        """Calls the handler with each message to the subject; within one queue each message goes to one server."""
        ...

    def expect_reply(self, on_reply: Callable[[Request], None]) -> AbstractAsyncContextManager[str]:
        """A fresh reply subject; what arrives there while the block runs is given to the callback."""
        ...
