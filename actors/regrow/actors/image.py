"""The image of an actor: everything that its log says about it, and the fold that computes it.

Pure: no clock, no I/O. Whatever a process knows of an actor beyond its image is lost with the process, and must not matter.
"""

from typing import TypeVar

import msgspec

from regrow.actors.actor import Actor, apply, incarnate, state_of
from regrow.actors.definition import Definition
from regrow.actors.errors import ActorError, Failure
from regrow.actors.records import (
    VERSION,
    Begun,
    Cancelled,
    Cause,
    Entry,
    Failed,
    Letter,
    Outcome,
    Record,
    Send,
    Snapshot,
    Step,
    Steps,
    Turn,
)
from regrow.actors.wire import asker_of
from regrow.bus import Box, Stored, decode, encode

K = TypeVar("K")

REPLIES_KEPT = 1_000
REPLY_BYTES_KEPT = 256 * 1024
"""Replies to the outside are kept up to this number and size, the newest ones; a repetition of an older message runs again."""
PEERS_KEPT = 10_000
"""Actors whose last relay, or whose last turn's asks, are known; a repetition from one that is forgotten runs again."""


class Open(msgspec.Struct, omit_defaults=True):
    """A turn that has begun and not ended: its message, its steps so far, its failed attempts."""

    letter: Letter
    steps: list[Step] = []
    """Those of this attempt, in the order in which they completed."""
    kept: list[Step] = []
    """Those of the attempts before, which are not run again."""
    attempts: int = 0
    failure: Failure | None = None
    """What the last attempt failed of."""

    def fail(self, failed: Failed) -> None:
        """One attempt more. What ended it is forgotten, and what was cancelled on the way: the next one runs that again."""
        self.attempts, self.failure = failed.attempt, failed.failure
        last = {step.key: step for step in (*self.kept, *self.steps)}
        self.kept = [step for step in last.values() if not step.cancelled and step.key not in failed.again]
        self.steps = []


class Outbox(msgspec.Struct, frozen=True):
    """The sends of one record; they are relayed before the next turn begins."""

    sequence: int
    """The record's sequence in its log stream, part of each relay's id."""
    sends: tuple[Send, ...]


class Asked(msgspec.Struct):
    """The replies to one actor's asks in one of its turns. Its next turn begins only when it has them all."""

    turn: str
    replies: dict[str, Outcome] = {}


class Image(msgspec.Struct, omit_defaults=True):
    """What an actor's log amounts to. ``state`` is raw JSON where it was read from a snapshot and not yet decoded."""

    in_seq: int = 0
    act_seq: int = 0
    marks: dict[str, tuple[int, int]] = {}
    """Per sender the last relay taken."""
    replies: dict[str, Outcome] = {}
    """The last replies to the outside by the id of their message, oldest first."""
    reply_bytes: int = 0
    """What these replies take."""
    asked: dict[str, Asked] = {}
    """The replies to other actors' asks, by asker."""
    outbox: Outbox | None = None
    opened: Open | None = None
    records: int = 0
    """Records since the last snapshot."""

    def taken(self, letter: Letter) -> bool:
        """Whether a letter's turn is recorded: it lies behind the position, or its sender's mark has passed it."""
        if letter.sequence <= (self.in_seq if letter.box == "in" else self.act_seq):
            return True
        if letter.mark is not None:
            return letter.mark <= self.marks.get(letter.sender, (0, 0))
        return self.reply_to(letter) is not None

    def reply_to(self, letter: Letter) -> Outcome | None:
        """The recorded reply to this message, as long as it is kept."""
        peer = _peer(letter)
        if peer is None:
            return self.replies.get(scoped(letter.box, letter.id))
        asked = self.asked.get(peer[0])
        return asked.replies.get(letter.id) if asked is not None else None

    def position_after(self, letter: Letter) -> tuple[int, int]:
        """How far IN and ACT have been taken once this letter's turn is recorded."""
        in_seq, act_seq = self.in_seq, self.act_seq
        if letter.box == "in":
            in_seq = max(in_seq, letter.sequence)
        else:
            act_seq = max(act_seq, letter.sequence)
        return in_seq, act_seq


class _Stored(msgspec.Struct):
    """A snapshot's content."""

    state: msgspec.Raw
    image: Image


def scoped(box: Box, message_id: str) -> str:
    """Ids of the outside and of the runtime never meet, whatever an outsider writes into his."""
    return f"{box}:{message_id}"


class Fold:
    """An actor's state and image, record by record. Give it every record of the log once, in order."""

    def __init__(self, cls: type[Actor], key: str) -> None:
        self._cls = cls
        self._key = key
        self._definition: Definition = cls.__regrow__
        self.actor: Actor = incarnate(cls, self._definition.fresh_state(), key)
        self.image = Image()
        self.sequence = 0
        """The sequence of the last record folded: the fence of the next append."""

    def add(self, stored: Stored) -> None:
        """Folds one stored record."""
        record = decode(stored.data, Record, "record")
        if record.v != VERSION:
            raise ActorError(
                f"this build reads records of version {VERSION}, not {record.v}; run the build that wrote them"
            )
        self.advance(record.entries, stored.sequence)

    def advance(self, entries: tuple[Entry, ...], sequence: int) -> None:
        """Folds the entries of one record."""
        self.sequence = sequence
        self.image.records += 1
        for entry in entries:
            match entry:
                case Begun(message):
                    self.image.opened = self._opened(message)
                case Steps(steps):
                    if self.image.opened is not None:
                        self.image.opened.steps += steps
                case Cancelled(step):
                    if self.image.opened is not None:
                        self.image.opened.steps.append(step)
                case Failed():
                    self.image.opened = self._opened(entry.message)
                    self.image.opened.fail(entry)
                case Turn():
                    self._turn(entry, sequence)
                case _:
                    self._restore(entry.image)

    def snapshot(self) -> Snapshot:
        """The image as a record's entry, from which a fold goes on as if it had seen the whole log."""
        image = msgspec.structs.replace(self.image, records=0)
        stored = _Stored(msgspec.Raw(encode(state_of(self.actor))), image)
        return Snapshot(msgspec.Raw(msgspec.json.encode(stored)))  # what is known of others stays in its order

    def _opened(self, message: Letter) -> Open:
        opened = self.image.opened
        if opened is not None and (opened.letter.box, opened.letter.sequence) == (message.box, message.sequence):
            return opened
        return Open(message)

    def _turn(self, turn: Turn, sequence: int) -> None:
        for fact in turn.events:
            apply(self.actor, self._definition.decode_event(fact))
        image = self.image
        image.opened = None
        image.in_seq, image.act_seq = turn.in_seq, turn.act_seq
        image.outbox = Outbox(sequence, turn.sends) if turn.sends else None
        _remember(image, turn.cause, turn.reply)

    def _restore(self, data: msgspec.Raw) -> None:
        stored = decode(data, _Stored, f"snapshot of {self._definition.kind}")
        self.actor = incarnate(self._cls, self._definition.decode_state(stored.state), self._key)
        self.image = stored.image


def _peer(message: Letter | Cause) -> tuple[str, str] | None:
    """Asker and turn of another actor's ask."""
    return asker_of(message.id) if message.box == "act" else None


def _remember(image: Image, cause: Cause, reply: Outcome) -> None:
    peer = _peer(cause)
    if cause.mark is not None:
        _keep_newest(image.marks, cause.sender, cause.mark)
    elif peer is not None:
        asker, turn = peer
        asked = image.asked.get(asker)
        if asked is None or asked.turn != turn:
            asked = Asked(turn)
        asked.replies[cause.id] = reply
        _keep_newest(image.asked, asker, asked)
    else:
        _remember_reply(image, scoped(cause.box, cause.id), reply)


def _remember_reply(image: Image, message: str, reply: Outcome) -> None:
    image.replies[message] = reply
    image.reply_bytes += _size(message, reply)
    while len(image.replies) > REPLIES_KEPT or (image.reply_bytes > REPLY_BYTES_KEPT and len(image.replies) > 1):
        oldest = next(iter(image.replies))
        image.reply_bytes -= _size(oldest, image.replies.pop(oldest))


def _keep_newest(known: dict[str, K], peer: str, value: K) -> None:
    known.pop(peer, None)
    known[peer] = value
    if len(known) > PEERS_KEPT:
        del known[next(iter(known))]


def _size(message: str, reply: Outcome) -> int:
    failed = reply.failure
    return len(message) + len(failed.message if failed is not None else reply.value or b"")


def fold(cls: type[Actor], key: str, records: list[Stored]) -> Fold:
    """The state and image that the log of an actor amounts to."""
    folded = Fold(cls, key)
    for stored in records:
        folded.add(stored)
    return folded


def state_json(actor: Actor) -> bytes:
    """The state as JSON, the same for equal states, to compare and to show."""
    return encode(state_of(actor))
