"""The event log on JetStream: fenced appends and batched reads.

Each append is one publish through the shared reply inbox. Its outcome may stay unknown (a lost acknowledgement, a server that
restarts); then the same bytes go out again under the same fence until the server decides. A read never proves that a record is
absent: only the record's id found in the log, or an accepted append, proves anything.

A record that does not fit one message is put aside first, and a small record that names it is appended under the same fence.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus.api import FENCED, JetStreamApi, together
from regrow.bus.aside import pointer, stored, with_claims
from regrow.bus.claims import Claims
from regrow.bus.codec import has_id
from regrow.bus.errors import (
    BusError,
    ClaimMissing,
    NoResponder,
    ReadBroken,
    RequestTimeout,
    StaleWriter,
    Unreachable,
)
from regrow.bus.follow import Follower, actor_of
from regrow.bus.headers import BLOB, ROLLUP, fence, fence_on_wire
from regrow.bus.pages import Pages, stored_ns
from regrow.bus.port import Attempted, Followed, Stored
from regrow.bus.publishing import accepted, fits, publish_acked, refused
from regrow.bus.replies import ReplyInbox
from regrow.bus.snapshots import JetStreamSnapshots
from regrow.bus.subjects import LOG_STREAMS, Address, Subjects, check_name, log_number

_log = structlog.get_logger(__name__)

APPEND_TIMEOUT_S = 10.0
"""After this long without an answer an append is sent again; a server under fsync load may take seconds."""
RESEND_PAUSE_S = 0.25
READ_ATTEMPTS = 5
"""A read changes nothing, so one that broke is begun again; a restarting server takes about a second."""
READ_PAUSE_S = 0.5
SUBJECTS_REMEMBERED = 16_384
READERS_PER_STREAM = 2
"""Recoveries at once per stream: a cold read blocks the appends of its neighbours."""

_BROKEN = (RequestTimeout, NoResponder, Unreachable, ReadBroken)


class JetStreamLog:
    """The logs of one application on one connection."""

    def __init__(self, client: Client, replies: ReplyInbox, subjects: Subjects, claims: Claims) -> None:
        self._client = client
        self._replies = replies
        self._subjects = subjects
        self._subject_of: dict[Address, str] = {}
        self._claims = claims
        self._api = JetStreamApi(replies)
        self._pages = Pages(replies)
        self._snapshots = JetStreamSnapshots(client, replies, subjects, claims)
        self._reading: dict[int, asyncio.Semaphore] = {}

    async def append(self, address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        """The sequence under which the record was stored; see ``EventLog.append``."""
        headers = fence(after, rollup=rollup)
        replaced = await self._held(address) if rollup else ()
        digest = None
        if not fits(self._client, data, headers):
            digest = await self._put_aside(address, data, rid)
            headers[BLOB], data = digest, pointer(rid, digest, len(data))
        try:
            sequence = await self._append(address, data, headers, rid, after)
        except StaleWriter:
            if digest is not None:
                await self._clean(address, [digest])
            raise
        if replaced:
            await self._clean(address, [each for each in replaced if each != digest])
        return sequence

    def attempt(self, address: Address, data: bytes, *, rid: str, after: int, done: Attempted) -> None:
        """One attempt at ``append``, sent at once; see ``EventLog.attempt``."""
        head = fence_on_wire(after)
        if len(head) + len(data) > self._client.max_payload:
            asyncio.get_running_loop().call_soon(done, None)
            return
        self._replies.ask(self._subject(address), data, head, accepted, done, timeout_s=APPEND_TIMEOUT_S)

    def _subject(self, address: Address) -> str:
        subject = self._subject_of.get(address)
        if subject is None:
            if len(self._subject_of) >= SUBJECTS_REMEMBERED:
                self._subject_of.clear()
            subject = self._subject_of[address] = self._subjects.log(address)
        return subject

    async def read(self, address: Address, after: int = 0) -> list[Stored]:
        """All records of this log behind a sequence, oldest first; see ``EventLog.read``.

        Raises ``ReadBroken``, ``RequestTimeout`` or ``Unreachable`` when it could not be read in several attempts, and
        ``ClaimMissing`` when what one of its records had put aside is lost.
        """
        for _ in range(1, READ_ATTEMPTS):
            try:
                return await self._read(address, after)
            except (ReadBroken, ClaimMissing, RequestTimeout, Unreachable) as error:
                if self._replies.closed:
                    raise
                _log.warning("read is broken, reading again", actor=str(address), error=str(error))
            await asyncio.sleep(READ_PAUSE_S)
        return await self._read(address, after)

    async def save(self, address: Address, data: bytes, covers: int) -> None:
        """Keeps a snapshot beside the log; see ``EventLog.save``."""
        await self._snapshots.save(address, data, covers)

    async def saved(self, address: Address) -> Stored | None:
        """The snapshot that was kept beside the log; see ``EventLog.saved``."""
        return await self._snapshots.saved(address)

    async def addresses(self, kind: str | None = None) -> list[Address]:
        """Every actor that has a log; see ``EventLog.addresses``."""
        tail = ">" if kind is None else f"{check_name('the kind', kind)}.*"
        streams = await together(
            self._api.subjects(self._subjects.log_stream(number), f"rg.{self._subjects.app}.evt.{number}.{tail}")
            for number in range(LOG_STREAMS)
        )
        actors = (actor_of(self._subjects, subject) for subjects in streams for subject in subjects)
        return [actor for actor in actors if actor is not None]

    def follow(self, kind: str, after: Mapping[int, int]) -> AsyncIterator[Followed]:
        """The records of all actors of a kind, those to come included; see ``EventLog.follow``."""
        return Follower(self._client, self._replies, self._subjects, self._claims, kind).records(after)

    async def forget(self, address: Address) -> None:
        """Removes snapshot and claims; see ``EventLog.forget``.

        What was put aside after the last record was stored stays: it may belong to an append that is under way.
        """
        await self._snapshots.forget(address)
        if not await self._claims.held("log", address):
            return
        last = await self._pages.last(self._subjects.log_stream(log_number(address)), self._subjects.log(address))
        if last is not None:
            keep = [(last.headers or {}).get(BLOB, "")]
            await self._claims.drop("log", address, keep, before_ns=stored_ns(last))

    async def _append(self, address: Address, data: bytes, headers: dict[str, str], rid: str, after: int) -> int:
        """Sends the record until the server has decided."""
        subject = self._subjects.log(address)
        unknown = False
        while True:
            try:
                ack = await publish_acked(self._replies, subject, data, headers, timeout_s=APPEND_TIMEOUT_S)
                if ack.error is None:
                    return ack.seq
                if unknown or ack.error.err_code in FENCED:
                    stored = await self._decide(address, rid, after)
                    if stored is not None:
                        return stored
                if ack.error.err_code not in FENCED:
                    raise refused(subject, ack.error)
            except _BROKEN as error:
                if self._replies.closed:
                    raise
                unknown = True
                _log.warning("append is undecided, sending it again", actor=str(address), error=str(error))
            await asyncio.sleep(RESEND_PAUSE_S)

    async def _decide(self, address: Address, rid: str, after: int) -> int | None:
        """After a refusal: my record's sequence if it is there, None when the log has not moved; else I am stale."""
        records = await self._records(address)
        for record in reversed(records):
            if record.sequence > after and has_id(record.data, rid):
                return record.sequence
        last = records[-1].sequence if records else 0
        if last == after:
            return None
        raise StaleWriter(after, last)

    async def _read(self, address: Address, after: int) -> list[Stored]:
        records = await self._records(address, after)
        return await with_claims(self._claims, address, records)

    async def _records(self, address: Address, after: int = 0) -> list[Stored]:
        """Pages of one log until the server says that nothing is pending; what was put aside stays there."""
        number = log_number(address)
        stream, subject = self._subjects.log_stream(number), self._subjects.log(address)
        records: list[Stored] = []
        async with self._reading.setdefault(number, asyncio.Semaphore(READERS_PER_STREAM)):
            while True:
                start = records[-1].sequence if records else after
                page = await self._pages.page(stream, subject, start + 1)
                if records and not page.messages:
                    raise ReadBroken(subject)
                records = from_last_rollup(records, page.messages)
                if not page.pending:
                    return records

    async def _put_aside(self, address: Address, data: bytes, rid: str) -> str:
        """The digest of a record's bytes in the object store; goes on until it is there, as an append does."""
        while True:
            try:
                return await self._claims.put("log", address, data, rid)
            except _BROKEN as error:
                if self._replies.closed:
                    raise
                _log.warning("a large record is not put aside yet, trying again", actor=str(address), error=str(error))
            await asyncio.sleep(RESEND_PAUSE_S)

    async def _held(self, address: Address) -> Collection[str]:
        """What the records of this log may have put aside, as known before a roll-up is sent.

        What is put aside later may belong to a record behind the roll-up, of another writer who has read it.
        """
        try:
            return await self._claims.held("log", address)
        except BusError as error:
            _log.warning("what a log has put aside is not known", actor=str(address), error=str(error))
            return ()

    async def _clean(self, address: Address, digests: Sequence[str]) -> None:
        """Removes what no record refers to any more; what stays is rubbish until the next roll-up."""
        try:
            for digest in digests:
                await self._claims.remove("log", address, digest)
        except BusError as error:
            _log.warning("what a log has put aside is left behind", actor=str(address), error=str(error))


def from_last_rollup(earlier: list[Stored], page: Sequence[Msg]) -> list[Stored]:
    """The records of all pages so far, without those that a roll-up between or within the pages has replaced."""
    records = earlier
    for message in page:
        if message.headers and ROLLUP in message.headers:
            records = []
        records.append(stored(message))
    return records
