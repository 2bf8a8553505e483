"""The fold: an actor's state and image, computed from its log record by record. Pure."""

import msgspec

from regrow.actors.actor import Actor, apply_recorded, incarnate, state_of
from regrow.actors.definition import Definition
from regrow.actors.errors import ActorError
from regrow.actors.image import Image
from regrow.actors.records import (
    VERSION,
    Asked,
    Begun,
    CancelAsked,
    Cancelled,
    Checkpoint,
    Drifted,
    Entry,
    Failed,
    Record,
    SendFailed,
    Slept,
    Snapshot,
    Started,
    Steps,
    Suspended,
    Tombstone,
    Turn,
)
from regrow.bus import Stored, decode, encode

_FAR_BACK = -(2**62)
"""As far back as this lies the first record of a log whose steps are forgotten: the writer makes it short at the next chance."""


class _Stored(msgspec.Struct, omit_defaults=True):
    """A snapshot's content."""

    state: msgspec.Raw
    image: Image
    version: int = 1
    """Of the state."""


class Fold:
    """An actor's state and image, record by record. Give it every record of the log once, in order."""

    __slots__ = (
        "_cls",
        "_definition",
        "_key",
        "actor",
        "first",
        "image",
        "sequence",
    )

    def __init__(self, cls: type[Actor], key: str) -> None:
        self._cls = cls
        self._key = key
        self._definition: Definition = cls.__regrow__
        self.actor: Actor = incarnate(cls, self._definition.fresh_state(), key)
        self.image = Image()
        self.sequence = 0
        """The sequence of the last record folded: the fence of the next append."""
        self.first = 0
        """The sequence of the first record that no snapshot stands for."""

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
        if self.image.records == 0:
            self.first = sequence
        self.image.records += 1
        if len(entries) == 1 and type(entries[0]) is Steps:  # nearly all of a long turn
            opened = self.image.opened
            if opened is not None:
                for step in entries[0].steps:
                    opened.add(step)
            return
        index = 0
        for entry in entries:
            self._enter(entry, sequence, index)
            index += isinstance(entry, Asked)

    def snapshot(self) -> Snapshot:
        """State and image as a record's entry, from which a fold goes on as if it had seen the whole log."""
        return Snapshot(msgspec.Raw(self.saved()))

    def saved(self) -> bytes:
        """What a snapshot holds; what is known of others stays in its order."""
        image = msgspec.structs.replace(self.image, records=0)
        state = msgspec.Raw(encode(state_of(self.actor)))
        return msgspec.json.encode(_Stored(state, image, self._definition.version))

    def check(self) -> None:
        """Raises ``Undecodable`` when an event left in the state what its types do not allow: no snapshot could be read."""
        self._definition.decode_state(msgspec.Raw(state_json(self.actor)), self._definition.version)

    def restore(self, data: bytes | msgspec.Raw, sequence: int) -> None:
        """Goes on from a snapshot that stands for everything up to this sequence."""
        stored = decode(data, _Stored, f"snapshot of {self._definition.kind}")
        state = self._definition.decode_state(stored.state, stored.version)
        self.actor = incarnate(self._cls, state, self._key)
        self.image = stored.image
        self.sequence = sequence

    def _enter(self, entry: Entry, sequence: int, index: int) -> None:
        image = self.image
        match entry:
            case Turn():
                for fact in entry.events:
                    apply_recorded(self.actor, fact)
                image.close(entry, sequence, index)
            case Begun(message, attempt):
                image.outbox = None
                image.open(message).starts = attempt
            case Failed():
                image.outbox = None
                image.open(entry.message).fail(entry)
            case SendFailed(number):
                if image.outbox is not None:
                    image.outbox = msgspec.structs.replace(image.outbox, failed=(*image.outbox.failed, number))
            case CancelAsked(reason, act_seq):
                image.cancel(reason, act_seq)
            case Snapshot(data):
                self.restore(data, sequence)
            case Tombstone(position, marks):
                self.actor = incarnate(self._cls, self._definition.fresh_state(), self._key)
                self.image = Image(position.in_seq, position.act_seq, position.ahead, dict(marks), deleted=True)
            case _:
                self._open_entry(entry, sequence, index)

    def _open_entry(
        self,
        entry: Steps | Started | Cancelled | Asked | Slept | Suspended | Checkpoint | Drifted,
        sequence: int,
        index: int,
    ) -> None:
        """What belongs to the open turn."""
        opened = self.image.opened
        if opened is None:
            return
        match entry:
            case Steps(steps):
                for step in steps:
                    opened.add(step)
            case Cancelled(step):
                opened.add(step)
            case Started():
                opened.start(entry)
            case Checkpoint():
                opened.begin_at(entry)
                self.first = _FAR_BACK
            case Drifted():
                opened.set_aside()
            case Suspended():
                opened.suspend(entry)
            case _:
                opened.wait(entry, sequence, index)


def fold(cls: type[Actor], key: str, records: list[Stored], saved: Stored | None = None) -> Fold:
    """The state and image that the log of an actor amounts to, from a snapshot kept beside it where there is one."""
    folded = Fold(cls, key)
    if saved is not None:
        folded.restore(saved.data, saved.sequence)
    for stored in records:
        folded.add(stored)
    return folded


def state_json(actor: Actor) -> bytes:
    """The state as JSON, the same for equal states, to compare and to show."""
    return encode(state_of(actor))
