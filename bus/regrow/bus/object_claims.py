"""Claims in a NATS object store, in the format of ADR-20, so that ``nats object get`` reads them.

nats-py's own object store is not used: its ``get`` waits for ever when the connection breaks and copies the object once per
chunk, and its ``put`` waits for each chunk in turn and forgets its chunks when it is cut short by a time-out.

The chunks are stored before the message that names them, and a removal first says that the object is deleted, then removes the
chunks, then that message: whatever dies in between leaves either a whole object, none, or one that the next removal finds.

Subjects of an object store hold its names in base64, so that one actor's claims cannot be asked for. Each process therefore
lists the bucket once, when it first must know, and listens to what is put from then on; after a broken connection it lists it
again. So an actor without claims, which is nearly every one, costs a look into a dict.
"""

import asyncio
import contextlib
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus.api import FENCED, JetStreamApi, PubAck, together
from regrow.bus.claims import ClaimBox, claim_stream, digest_of
from regrow.bus.codec import decode, encode
from regrow.bus.errors import BusError, NoResponder, ReadBroken, RequestTimeout, Undecodable, Unreachable
from regrow.bus.headers import Headers, fence
from regrow.bus.pages import Pages, sequence_of, stored_ns
from regrow.bus.publishing import publish_acked, refused
from regrow.bus.replies import ReplyInbox, subscribe, unsubscribe
from regrow.bus.subjects import Address, Subjects, check_address, escape

T = TypeVar("T")

_log = structlog.get_logger(__name__)

CHUNK_BYTES = 512 * 1024
CHUNKS_AT_ONCE = 8
"""Chunks under way together: 4 MB keep the server busy and the connection's buffer small."""
CLAIM_TIMEOUT_S = 10.0
CLAIM_ATTEMPTS = 5
CLAIM_PAUSE_S = 0.5
"""Between attempts; a restarting server takes about a second."""
_HEADERS_BYTES_MAX = 4 * 1024
_DIGEST = "SHA-256="


class _Info(msgspec.Struct, frozen=True, omit_defaults=True):
    """The message that names an object, as ADR-20 wants it."""

    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    mtime: str
    digest: str = ""
    options: dict[str, Any] = {}
    deleted: bool = False


class ObjectClaims:
    """The claims of one application on one connection."""

    def __init__(self, client: Client, replies: ReplyInbox, subjects: Subjects) -> None:
        self._client = client
        self._replies = replies
        self._api = JetStreamApi(replies)
        self._pages = Pages(replies)
        self._bucket = subjects.claim_bucket
        self._stream = claim_stream(subjects)
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._listed = False
        self._interruptions = 0
        self._listing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Listens to what is put and removed, also by others, for as long as the block runs."""
        subscription = await subscribe(self._client, self._meta("*"), self._hear)
        try:
            with self._replies.interruptions(self._interrupt):
                yield
        finally:
            await unsubscribe(self._client, subscription)

    async def put(self, box: ClaimBox, address: Address, data: bytes, salt: str = "") -> str:
        """The digest; see ``Claims.put``."""
        owner = owner_of(box, address)
        digest = await asyncio.to_thread(digest_of, data, salt)
        self._held[owner].add(digest)
        await self._insist(lambda: self._put(f"{owner}/{digest}", data))
        return digest

    async def get(self, box: ClaimBox, address: Address, digest: str) -> bytes | None:
        """The bytes, whose hash the object store's own digest has proved; see ``Claims.get``."""
        name = f"{owner_of(box, address)}/{digest}"
        return await self._insist(lambda: self._get(name))

    async def held(self, box: ClaimBox, address: Address) -> Collection[str]:
        """The digests of what this actor has in that box; see ``Claims.held``."""
        await self._look()
        return frozenset(self._held.get(owner_of(box, address), ()))

    async def drop(
        self, box: ClaimBox, address: Address, keep: Collection[str] = (), *, before_ns: int | None = None
    ) -> None:
        """Removes all but those; see ``Claims.drop``."""
        for digest in await self.held(box, address):
            if digest not in keep:
                await self._remove(owner_of(box, address), digest, before_ns)

    async def remove(self, box: ClaimBox, address: Address, digest: str) -> None:
        """Removes one."""
        await self._remove(owner_of(box, address), digest, None)

    async def _put(self, name: str, data: bytes) -> None:
        """Stores an object unless it is there."""
        there = await self._pages.last(self._stream, self._meta(name))
        if there is not None and not _info(there).deleted:
            return
        nuid = secrets.token_hex(11)
        try:
            info = await self._put_chunks(name, nuid, data)
            after = 0 if there is None else sequence_of(there)
            ack = await self._publish(self._meta(name), encode(info), fence(after, rollup=True))
            if ack.error is None:
                return
            if ack.error.err_code not in FENCED:
                raise refused(self._meta(name), ack.error)
        except BusError:
            await self._discard(nuid, name)
            raise
        await self._discard(nuid, name)  # somebody else has put the same meanwhile

    async def _put_chunks(self, name: str, nuid: str, data: bytes) -> _Info:
        """Stores an object's chunks in their order; the message that names them is still to be published."""
        size = min(CHUNK_BYTES, self._client.max_payload - _HEADERS_BYTES_MAX)
        chunks = [data[start : start + size] for start in range(0, len(data), size)]
        last = 0
        for start in range(0, len(chunks), CHUNKS_AT_ONCE):
            several = chunks[start : start + CHUNKS_AT_ONCE]
            for ack in await together(self._publish(self._chunks(nuid), chunk) for chunk in several):
                if ack.error is not None:
                    raise refused(self._chunks(nuid), ack.error)
                if ack.seq <= last:
                    raise RequestTimeout(self._chunks(nuid))  # out of order: begin again
                last = ack.seq
        hashed = (await asyncio.to_thread(sha256, data)).digest()
        return _Info(
            name,
            self._bucket,
            nuid,
            len(data),
            len(chunks),
            datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            _DIGEST + urlsafe_b64encode(hashed).decode(),
            {"max_chunk_size": size},
        )

    async def _get(self, name: str) -> bytes | None:
        there = await self._pages.last(self._stream, self._meta(name))
        if there is None or (info := _info(there)).deleted:
            return None
        parts: list[bytes] = []
        sequence = pending = 1
        while pending:
            messages, pending = await self._pages.page(self._stream, self._chunks(info.nuid), sequence)
            parts.extend(each.data for each in messages)
            sequence = sequence_of(messages[-1]) + 1 if messages else sequence
        data = b"".join(parts)
        hashed = (await asyncio.to_thread(sha256, data)).digest()
        if urlsafe_b64decode(info.digest.removeprefix(_DIGEST)) != hashed:
            raise ReadBroken(name)  # removed meanwhile: then the next look says so
        return data

    async def _remove(self, owner: str, digest: str, before_ns: int | None) -> None:
        """Removes an object and all traces of it, unless it was put at that time or later."""
        name = f"{owner}/{digest}"
        there = await self._pages.last(self._stream, self._meta(name))
        if there is not None:
            if before_ns is not None and stored_ns(there) >= before_ns:
                return
            gone = msgspec.structs.replace(_info(there), deleted=True, size=0, chunks=0, digest="")
            ack = await self._publish(self._meta(name), encode(gone), fence(sequence_of(there), rollup=True))
            if ack.error is not None and ack.error.err_code not in FENCED:
                raise refused(self._meta(name), ack.error)
            await self._api.purge(self._stream, self._chunks(gone.nuid))
            await self._api.purge(self._stream, self._meta(name))
        self._forget(owner, digest)

    async def _discard(self, nuid: str, name: str) -> None:
        """Removes chunks that nothing names."""
        try:
            await self._api.purge(self._stream, self._chunks(nuid))
        except BusError as error:
            _log.warning("chunks of an object are left behind", object=name, nuid=nuid, error=str(error))

    async def _publish(self, subject: str, data: bytes, headers: Headers | None = None) -> PubAck:
        return await publish_acked(self._replies, subject, data, headers, timeout_s=CLAIM_TIMEOUT_S)

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The attempt's value, made again a few times while the store does not answer."""
        for _ in range(1, CLAIM_ATTEMPTS):
            try:
                return await attempt()
            except (ReadBroken, RequestTimeout, NoResponder, Unreachable) as error:
                if self._replies.closed:
                    raise
                _log.warning("the object store does not answer, trying again", error=str(error))
            await asyncio.sleep(CLAIM_PAUSE_S)
        return await attempt()

    async def _look(self) -> None:
        """Lists the bucket unless what is held is known."""
        if self._listed:
            return
        async with self._listing:
            while not self._listed:
                known = self._held = defaultdict(set)  # what is put from now on is noted here too
                interruptions = self._interruptions
                for subject in await self._api.subjects(self._stream, self._meta("*")):
                    owner, digest = _named(subject)
                    known[owner].add(digest)
                self._listed = interruptions == self._interruptions

    async def _hear(self, message: Msg) -> None:
        """Notes what was put or removed, by whomever."""
        try:
            owner, digest = _named(message.subject)
            deleted = _info(message).deleted
        except (ValueError, Undecodable):
            return
        if deleted:
            self._forget(owner, digest)
        else:
            self._held[owner].add(digest)

    def _interrupt(self) -> None:
        self._interruptions += 1
        self._listed = False

    def _forget(self, owner: str, digest: str) -> None:
        held = self._held.get(owner)
        if held is not None:
            held.discard(digest)
            if not held:
                del self._held[owner]

    def _meta(self, name: str) -> str:
        token = name if name == "*" else urlsafe_b64encode(name.encode()).decode()
        return f"$O.{self._bucket}.M.{token}"

    def _chunks(self, nuid: str) -> str:
        return f"$O.{self._bucket}.C.{nuid}"


def owner_of(box: ClaimBox, address: Address) -> str:
    """What the names of one actor's claims in a box begin with."""
    check_address(address)
    return f"{box}/{address.kind}.{escape(address.key)}"


def _named(subject: str) -> tuple[str, str]:
    """Owner and digest of the object that a subject names."""
    name = urlsafe_b64decode(subject.rpartition(".")[2]).decode()
    owner, _, digest = name.rpartition("/")
    return owner, digest


def _info(message: Msg) -> _Info:
    return decode(message.data, _Info, "object's description")
