"""The dead letters on JetStream: stored once per id, large ones put aside, found by actor, dropped one by one."""

from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus.api import DELETE_FAILED, SEQUENCE_NOT_FOUND, ApiError, JetStreamApi
from regrow.bus.claims import Claims
from regrow.bus.headers import BLOB, MESSAGE_ID
from regrow.bus.memory_dead_letters import check_wanted
from regrow.bus.pages import READ_BATCH, SUBJECT, Pages, sequence_of, stored_ns
from regrow.bus.port import Buried, Stored
from regrow.bus.publishing import check_size, fits, publish_acked, refused
from regrow.bus.replies import ReplyInbox
from regrow.bus.subjects import Address, Subjects, check_name

BURY_TIMEOUT_S = 10.0


class JetStreamDeadLetters:
    """The dead letters of one application on one connection."""

    def __init__(self, client: Client, replies: ReplyInbox, subjects: Subjects, claims: Claims) -> None:
        self._client = client
        self._replies = replies
        self._api = JetStreamApi(replies)
        self._pages = Pages(replies)
        self._subjects = subjects
        self._claims = claims

    async def bury(self, address: Address, body: bytes, *, message_id: str, brief: bytes = b"") -> None:
        """Stores a dead letter; see ``DeadLetters.bury``. Raises ``PayloadTooLarge``, ``StoreFull``, ``RequestTimeout``."""
        subject = self._subjects.dead_letter(address)
        given = {MESSAGE_ID: message_id}
        if brief and not fits(self._client, body, given):
            check_size(self._client, brief, {**given, BLOB: "0" * 64})
            given[BLOB] = await self._claims.put("dead", address, body, message_id)
            body = brief
        check_size(self._client, body, given)
        ack = await publish_acked(self._replies, subject, body, given, timeout_s=BURY_TIMEOUT_S)
        if ack.error is not None:
            raise refused(subject, ack.error)
        if ack.duplicate and BLOB in given and await self._message(ack.seq) is None:
            await self._claims.remove("dead", address, given[BLOB])  # dropped already, and nobody else will

    async def find(
        self, kind: str | None = None, key: str | None = None, *, after: int = 0, limit: int = 1_000
    ) -> list[Buried]:
        """Dead letters, oldest first; see ``DeadLetters.find``. Raises ``ReadBroken``, ``RequestTimeout``."""
        pattern = pattern_of(self._subjects, kind, key)
        found: list[Buried] = []
        while len(found) < limit:
            start = found[-1].stored.sequence if found else after
            batch = min(READ_BATCH, limit - len(found))
            page = await self._pages.page(self._subjects.dead_letter_stream, pattern, start + 1, batch=batch)
            found.extend(map(self._buried, page.messages))
            if not page.pending:
                break
        return found

    async def get(self, sequence: int) -> Buried | None:
        """One dead letter, whole; see ``DeadLetters.get``. Raises ``RequestTimeout``."""
        message = await self._message(sequence)
        if message is None:
            return None
        found = self._buried(message)
        digest = (message.headers or {}).get(BLOB)
        data = await self._claims.get("dead", found.address, digest) if digest else None
        if data is None:
            return found
        return Buried(found.address, Stored(sequence, found.stored.time_ns, data))

    async def drop(self, sequence: int) -> bool:
        """Removes a dead letter for good; False when it was not there. Raises ``RequestTimeout``."""
        if sequence < 1:
            return False
        message = await self._message(sequence)
        try:
            await self._api.call(f"STREAM.MSG.DELETE.{self._subjects.dead_letter_stream}", {"seq": sequence})
        except ApiError as error:
            if error.refusal.err_code == SEQUENCE_NOT_FOUND:
                return False
            if error.refusal.err_code == DELETE_FAILED and await self.get(sequence) is None:
                return False  # a sequence that the stream has not reached
            raise
        if message is not None and (digest := (message.headers or {}).get(BLOB)):
            await self._claims.remove("dead", self._buried(message).address, digest)
        return True

    async def _message(self, sequence: int) -> Msg | None:
        return await self._pages.at(self._subjects.dead_letter_stream, sequence) if sequence > 0 else None

    def _buried(self, message: Msg) -> Buried:
        subject = (message.headers or {})[SUBJECT]
        stored = Stored(sequence_of(message), stored_ns(message), message.data)
        return Buried(address_in(self._subjects, subject), stored, BLOB in (message.headers or {}))


def address_in(subjects: Subjects, subject: str) -> Address:
    """The actor that a dead letter's subject ends in; where that names no actor, as mail from outside may, its last tokens
    as they are."""
    try:
        return subjects.address(subject)
    except ValueError:
        return Address(*subject.rsplit(".", 2)[1:])


def pattern_of(subjects: Subjects, kind: str | None, key: str | None) -> str:
    """The subjects of dead letters of one actor, of a kind, or of everybody. Raises ValueError for a key without a kind."""
    check_wanted(kind, key)
    if kind is None:
        return f"rg.{subjects.app}.dlq.*.*"
    if key is None:
        return f"rg.{subjects.app}.dlq.{check_name('the kind', kind)}.*"
    return subjects.dead_letter(Address(kind, key))
