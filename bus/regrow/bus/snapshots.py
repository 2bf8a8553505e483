"""Snapshots beside logs that are not rolled up: the last one per actor, a cache that may be lost at any time."""

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus.api import FENCED, JetStreamApi
from regrow.bus.claims import Claims
from regrow.bus.errors import BusError
from regrow.bus.headers import BLOB, COVERS, fence
from regrow.bus.pages import Pages, sequence_of, stored_ns
from regrow.bus.port import Stored
from regrow.bus.publishing import fits, publish_acked, refused
from regrow.bus.replies import ReplyInbox
from regrow.bus.subjects import Address, Subjects

_log = structlog.get_logger(__name__)

SAVE_TIMEOUT_S = 10.0
SAVE_ATTEMPTS = 3
"""Whoever is overtaken so often leaves the snapshot to the others."""


class JetStreamSnapshots:
    """The snapshots of one application on one connection."""

    def __init__(self, client: Client, replies: ReplyInbox, subjects: Subjects, claims: Claims) -> None:
        self._client = client
        self._replies = replies
        self._api = JetStreamApi(replies)
        self._pages = Pages(replies)
        self._subjects = subjects
        self._stream = subjects.snapshot_stream
        self._claims = claims

    async def save(self, address: Address, data: bytes, covers: int) -> None:
        """Replaces the kept snapshot unless that one covers more; see ``EventLog.save``.

        Raises ``PayloadTooLarge``, ``StoreFull``, ``RequestTimeout``.
        """
        subject = self._subjects.snapshot(address)
        for _ in range(SAVE_ATTEMPTS):
            there = await self._pages.last(self._stream, subject)
            if there is not None and _covers(there) > covers:
                return
            if await self._replace(address, data, covers, there):
                return

    async def saved(self, address: Address) -> Stored | None:
        """The kept snapshot; see ``EventLog.saved``. One whose bytes were put aside and are gone is none."""
        subject = self._subjects.snapshot(address)
        for _ in range(SAVE_ATTEMPTS):
            there = await self._pages.last(self._stream, subject)
            if there is None:
                return None
            digest = _digest(there)
            data = there.data if digest is None else await self._claims.get("snap", address, digest)
            if data is not None:
                return Stored(_covers(there), stored_ns(there), data)
        _log.warning("a snapshot's bytes are gone", actor=str(address))
        return None

    async def forget(self, address: Address) -> None:
        """Removes the kept snapshot and what was put aside for any."""
        await self._api.purge(self._stream, self._subjects.snapshot(address))
        await self._claims.drop("snap", address)

    async def _replace(self, address: Address, data: bytes, covers: int, there: Msg | None) -> bool:
        """Whether the snapshot was stored in the place of that one; not when another was there first."""
        subject = self._subjects.snapshot(address)
        headers = fence(0 if there is None else sequence_of(there)) | {COVERS: str(covers)}
        digest = None
        if not fits(self._client, data, headers):
            digest = await self._claims.put("snap", address, data, str(covers))
            headers[BLOB], data = digest, b""
        ack = await publish_acked(self._replies, subject, data, headers, timeout_s=SAVE_TIMEOUT_S)
        if ack.error is not None:
            if ack.error.err_code in FENCED:
                return False
            raise refused(subject, ack.error)
        earlier = None if there is None else _digest(there)
        if earlier is not None and earlier != digest:
            await self._clean(address, earlier)
        return True

    async def _clean(self, address: Address, digest: str) -> None:
        try:
            await self._claims.remove("snap", address, digest)
        except BusError as error:
            _log.warning("a replaced snapshot is left behind", actor=str(address), error=str(error))


def _covers(message: Msg) -> int:
    return int((message.headers or {}).get(COVERS, "0"))


def _digest(message: Msg) -> str | None:
    return (message.headers or {}).get(BLOB)
