"""What an actor's log says about it, read without its class: for whoever operates an application. Pure."""

import msgspec

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
from regrow.bus import Address, Stored, decode


class Attempted(msgspec.Struct, frozen=True):
    """An attempt at a step, without its arguments."""

    tool: str
    attempt: int
    once: bool
    """Whether it never runs again where it may have run."""


class OpenTurn(msgspec.Struct, frozen=True):
    """A turn that has begun and not ended, without what was said in it."""

    id: str
    box: str
    type: str
    sender: str
    steps: int
    """Recorded so far."""
    asks: tuple[str, ...]
    """The actors whose answers it waits for."""
    attempts: int
    """That have failed."""
    starts: int
    """Processes that have begun it."""
    failure: str = ""
    """What the last attempt failed of."""
    sleeps: int = 0
    """That it waits for."""
    suspended: bool = False
    """Whether it waits in no process: a message will go on with it."""
    started: tuple["Attempted", ...] = ()
    """Steps of which an attempt has begun and no outcome is recorded, as far as that is: first attempts of most tools are not."""
    checkpoints: int = 0
    """That its handler has put down."""


class Overview(msgspec.Struct, frozen=True):
    """An actor as its log has it: where it stands, and what is still to come, but nothing that was said or is known."""

    kind: str
    key: str
    deleted: bool
    records: int
    """In the log now."""
    sequence: int
    """Of the last record."""
    time_ns: int
    """When the last record was stored, nanoseconds since 1970 by the server's clock."""
    in_seq: int
    act_seq: int
    """How far the two mailboxes have been taken."""
    timers: dict[str, int]
    """When the pending timers are due, milliseconds since 1970, by name."""
    outbox: bool
    """Whether what the last turn decided may not all be out yet; the next turn of the actor sees to it."""
    opened: OpenTurn | None

    @property
    def waits(self) -> bool:
        """Whether something of its own is still to come: a timer, or the end of a turn."""
        return bool(self.timers) or self.opened is not None


class _Kept(msgspec.Struct):
    """What matters of a snapshot here."""

    image: Image


def overview_of(address: Address, records: list[Stored]) -> Overview | None:
    """The overview that the records of a log amount to; None when there are none. Raises ``Undecodable``, ``ActorError``."""
    if not records:
        return None
    image, last = image_of(records), records[-1]
    timers = {name: due_ms for name, (_, due_ms) in image.timers.items()}
    return Overview(
        *address,
        image.deleted,
        len(records),
        last.sequence,
        last.time_ns,
        image.in_seq,
        image.act_seq,
        timers,
        image.outbox is not None,
        _open_turn(image),
    )


def image_of(records: list[Stored]) -> Image:
    """The image that these records amount to."""
    image = Image()
    for stored in records:
        record = decode(stored.data, Record, "record")
        if record.v != VERSION:
            raise ActorError(
                f"this build reads records of version {VERSION}, not {record.v}; use the build of its nodes"
            )
        place = 0
        for entry in record.entries:
            image = _enter(image, entry, stored.sequence, place)
            place += isinstance(entry, Asked)
    return image


def _enter(image: Image, entry: Entry, sequence: int, place: int) -> Image:
    """The image with one entry more."""
    match entry:
        case Turn():
            image.close(entry, sequence, place)
        case Begun(message, attempt):
            image.outbox = None
            image.open(message).starts = attempt
        case Failed():
            image.outbox = None
            image.open(entry.message).fail(entry)
        case CancelAsked(reason, act_seq):
            image.cancel(reason, act_seq)
        case Snapshot(data):
            return decode(data, _Kept, "snapshot").image
        case Tombstone(position, marks):
            return Image(position.in_seq, position.act_seq, position.ahead, dict(marks), deleted=True)
        case (
            Steps()
            | Started()
            | Cancelled()
            | Asked()
            | Slept()
            | Suspended()
            | Checkpoint()
            | Drifted()
            | SendFailed()
        ):
            _enter_open(image, entry, sequence, place)
    return image


def _enter_open(
    image: Image,
    entry: Steps | Started | Cancelled | Asked | Slept | Suspended | Checkpoint | Drifted | SendFailed,
    sequence: int,
    place: int,
) -> None:
    opened = image.opened
    if opened is None:
        return
    match entry:
        case Steps(steps):
            for step in steps:
                opened.add(step)
        case Cancelled(step):
            opened.add(step)
        case Asked() | Slept():
            opened.wait(entry, sequence, place)
        case Suspended():
            opened.suspend(entry)
        case Started():
            opened.start(entry)
        case Checkpoint():
            opened.begin_at(entry)
        case Drifted():
            opened.set_aside()
        case SendFailed():
            pass


def _open_turn(image: Image) -> OpenTurn | None:
    opened = image.opened
    if opened is None:
        return None
    letter = opened.letter
    return OpenTurn(
        letter.id,
        letter.box,
        letter.type,
        letter.sender,
        len(opened.steps) + len(opened.kept),
        tuple("/".join(ask.asked.to) for ask in opened.asks.values()),
        opened.attempts,
        opened.starts,
        opened.failure.message if opened.failure is not None else "",
        len(opened.sleeps),
        opened.suspended,
        tuple(Attempted(each.tool, each.attempt, each.once) for each in opened.started.values()),
        opened.checkpoints,
    )
