"""Dead letters: messages that were given up, kept with the cause until a person has them handled once more or drops them."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Literal

import msgspec
import structlog

from regrow.actors.errors import UNDECODABLE, ActorError, Failure, failure
from regrow.actors.records import Letter
from regrow.actors.wire import DELETE, PROMOTED
from regrow.bus import Address, Buried, Bus, PayloadTooLarge, Undecodable, decode, encode, headers

_log = structlog.get_logger(__name__)

LISTED_BODY_BYTES_MAX = 8 * 1024
"""A list leaves out bodies that are larger: many of them may be listed, and each may be large."""
PAGE = 50
_NOTHING = msgspec.Raw(b"null")

Coding = Literal["json", "text", "base64", "elsewhere"]
"""How the message's body is written: as the JSON that it is, as a JSON string of its text or of its bytes in base64, or not at
all, because it is large and ``show`` gets it."""


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was given up, and why."""

    kind: str
    key: str
    message: Letter
    cause: Failure
    coding: Coding = "json"
    """How ``message.body`` is to be read."""
    sequence: int = 0
    """Its name among the dead letters; 0 while it is not stored."""
    time_ns: int = 0
    """When it was stored, nanoseconds since 1970 by the server's clock."""

    @property
    def address(self) -> Address:
        return Address(self.kind, self.key)

    def payload(self) -> bytes:
        """The message's body as it came. Raises ``NotReplayable`` when it is not here."""
        if self.coding == "elsewhere":
            raise NotReplayable(self.sequence, "its body was put aside and is not in the store of blobs")
        if self.coding == "json":
            return bytes(self.message.body)
        text = decode(self.message.body, str, "body of a dead letter")
        return b64decode(text) if self.coding == "base64" else text.encode()


class NoDeadLetter(ActorError, LookupError):
    """There is no dead letter of this sequence: never was, or it was dropped or replayed."""

    def __init__(self, sequence: int) -> None:
        super().__init__(f"there is no dead letter {sequence} (any more); list them to see which there are")
        self.sequence = sequence


class NotReplayable(ActorError):
    """This dead letter cannot be put into a mailbox again."""

    def __init__(self, sequence: int, why: str) -> None:
        super().__init__(f"dead letter {sequence} cannot be replayed: {why}; drop it when it is of no use any more")
        self.sequence = sequence


async def bury(bus: Bus, address: Address, letter: Letter, cause: Failure) -> None:
    """Stores a dead letter; the same message buried again after a crash is stored once."""
    _log.error("dead letter", actor=str(address), id=letter.id, cause=cause.message)
    body, coding = _readable(letter.body)
    dead = DeadLetter(address.kind, address.key, msgspec.structs.replace(letter, body=body), cause, coding)
    data, message_id = encode(dead), f"{letter.box}.{letter.sequence}.{letter.id}"
    try:
        try:
            await bus.dead.bury(address, data, message_id=message_id)
        except PayloadTooLarge:
            await bus.dead.bury(address, data, message_id=message_id, brief=encode(_brief(dead)))
    except PayloadTooLarge as error:
        _log.error("dead letter does not fit the bus and is only logged", actor=str(address), error=str(error))


class DeadLetters:
    """The dead letters of an application, for whoever operates it. No node of the application needs to run."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def list(self, kind: str | None = None, key: str | None = None, *, after: int = 0) -> "Sequence[DeadLetter]":
        """Those of everybody, of a kind, or of one actor, behind a sequence, oldest first; large bodies are left out.

        Raises ValueError for a key without a kind.
        """
        found: Sequence[DeadLetter] = ()
        while page := await self._bus.dead.find(kind, key, after=after, limit=PAGE):
            found = (*found, *map(_listed, page))
            after = page[-1].stored.sequence
        return found

    async def show(self, sequence: int) -> DeadLetter:
        """One, whole. Raises ``NoDeadLetter``."""
        buried = await self._bus.dead.get(sequence)
        if buried is None:
            raise NoDeadLetter(sequence)
        return _read(buried)

    async def replay(self, sequence: int) -> DeadLetter:
        """Puts the message into the mailbox that it came from once more, and drops the dead letter.

        It is handled as one from outside, whoever sent it: nobody waits for its reply, its timer is not set any more, and it
        stands behind the mail that waits. Its id is made of the dead letter's sequence, so a replay that was cut short and is
        done again is applied once, as long as the actor keeps that reply. Fails again, and it is a new dead letter.

        Raises ``NoDeadLetter``, ``NotReplayable``, ``MailboxFull``, ``PayloadTooLarge``, ``AccessDenied``; then it stays.
        """
        dead = await self.show(sequence)
        letter = dead.message
        if not letter.id:
            raise NotReplayable(sequence, "it was sent to a subject that names no actor")
        message_id = f"dlq-{self._bus.epoch}-{sequence}"
        given = {headers.ID: message_id}
        if letter.box == "in":
            await self._bus.mail.post("in", dead.address, dead.payload(), given)
        else:
            given[headers.TYPE] = DELETE if letter.type == "delete" else PROMOTED
            await self._bus.mail.post("act", dead.address, dead.payload(), given, message_id=message_id)
        await self._bus.dead.drop(sequence)
        return dead

    async def drop(self, sequence: int) -> None:
        """Removes one for good. Raises ``NoDeadLetter``."""
        if not await self._bus.dead.drop(sequence):
            raise NoDeadLetter(sequence)

    async def drop_all(self, address: Address) -> int:
        """Removes all of one actor; how many there were."""
        dropped = 0
        while page := await self._bus.dead.find(*address, limit=PAGE):
            for each in page:
                dropped += await self._bus.dead.drop(each.stored.sequence)
        return dropped


def _readable(body: msgspec.Raw) -> tuple[msgspec.Raw, Coding]:
    """The body as it is, or, where it is no JSON, its text or its bytes in base64 as a JSON string."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            return msgspec.Raw(encode(bytes(body).decode())), "text"
        except UnicodeDecodeError:
            return msgspec.Raw(encode(b64encode(body).decode())), "base64"
    return body, "json"


def _read(buried: Buried) -> DeadLetter:
    """A dead letter out of the store; what is none of ours came there because its subject named no actor."""
    stored = buried.stored
    try:
        dead = decode(stored.data, DeadLetter, "dead letter")
    except Undecodable:
        body, coding = _readable(msgspec.Raw(stored.data))
        cause = failure(UNDECODABLE, "it was sent to a subject that names no actor")
        dead = DeadLetter(*buried.address, Letter("in", 0, "", body), cause, coding)
    return msgspec.structs.replace(dead, sequence=stored.sequence, time_ns=stored.time_ns)


def _listed(buried: Buried) -> DeadLetter:
    dead = _read(buried)
    return _brief(dead) if len(bytes(dead.message.body)) > LISTED_BODY_BYTES_MAX else dead


def _brief(dead: DeadLetter) -> DeadLetter:
    """The same without its body."""
    message = msgspec.structs.replace(dead.message, body=_NOTHING)
    return msgspec.structs.replace(dead, message=message, coding="elsewhere")
