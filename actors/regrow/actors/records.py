"""The records of an actor's log, as they lie on the wire: one record is one NATS message with the entries of one append.

A value that belongs to the user (a message, an event, a reply, a state) stays raw JSON here; the actor's definition decodes it.
"""

from typing import Literal, NamedTuple

import msgspec

from regrow.actors.errors import Failure
from regrow.bus import Box

VERSION = 1
"""The ``v`` of every record that this build writes and reads."""


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Who made a result that came out of the application's cache."""

    actor: str
    """``kind/key``."""
    step: str
    """The key of its step."""
    at_ms: int
    """Milliseconds since 1970."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How a turn or a step ended: with a value (raw JSON) or with a failure."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    """Never a union with None: msgspec reads nothing but null as ``Raw | None``."""
    failure: Failure | None = None
    origin: Origin | None = None
    """Of a step's value that it did not make itself."""


Type = Literal["", "ask", "timer", "direct", "promoted", "delete"]
"""What a letter is beside a plain message: another actor's ask, a timer that fired, an ask of this very process that lies in no
mailbox (yet), one that was put into ACT afterwards, an order to delete the actor."""


class Letter(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A message as it came out of a mailbox, with all that its turn needs."""

    box: Box
    sequence: int
    """Its place in the mailbox's stream: within one box an actor's letters come in rising sequence. 0 where it has none."""
    id: str
    body: msgspec.Raw
    reply: str = ""
    sender: str = ""
    """The actor whose turn sent or asked it; empty for a message from outside."""
    mark: tuple[int, int] | None = None
    """For a relay: the sequence of the sender's record and the position in it; it only ever rises per sender."""
    sent_ms: int = 0
    """For a relay: when the sender's record was made, milliseconds since 1970."""
    chain: tuple[str, ...] = ()
    """For an ask: the actors that wait for it."""
    type: Type = ""
    timer: str = ""
    """For a timer that fired: its name."""


class Send(msgspec.Struct, frozen=True, gc=False):
    """A decided message to another actor, relayed after the record that holds it."""

    kind: str
    key: str
    body: msgspec.Raw


class TimerSet(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A decided timer, or the end of one. A name has one timer at most; a later one replaces it."""

    name: str
    at_ms: int = 0
    """When the message is due, milliseconds since 1970; 0: the timer is cancelled."""
    body: msgspec.Raw = msgspec.Raw(b"null")


class Begun(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type", gc=False):
    """A turn has begun; its message is here, so that the log alone is enough to go on."""

    message: Letter
    attempt: int = 1
    """The number of its start. Above 1 the process that started it before has died, maybe of this very message."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A finished step, or one whose task was cancelled before it saw an outcome."""

    key: str
    tool: str
    arguments: msgspec.Raw
    outcome: Outcome = Outcome()
    attempt: int = 1
    cancelled: bool = False
    once: bool = False
    """It may run only once: a failed attempt at the turn does not run it again, however it ended."""


class Started(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type", gc=False):
    """An attempt at a step is about to run: each one behind the first, and the first of a step that may run only once."""

    key: str
    tool: str
    arguments: msgspec.Raw
    attempt: int
    since_ms: int
    """When the step's first attempt began, milliseconds since 1970."""
    failure: Failure | None = None
    """What the attempt before failed of."""
    once: bool = False
    apart: dict[str, int] = {}
    """How many attempts before failed in a way that spends none of the tool's attempts, by kind of failure."""


class Steps(msgspec.Struct, frozen=True, tag=True, tag_field="type", gc=False):
    """Steps in the order in which they completed."""

    steps: tuple[Step, ...]


class Cancelled(msgspec.Struct, frozen=True, tag=True, tag_field="type", gc=False):
    """A step was cancelled, or timed out, and the handler went on from there: it never runs again in this attempt.

    The turn's next attempt runs it again, unless it had an outcome.
    """

    step: Step


class Asked(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type", gc=False):
    """A durable ask inside a turn: relayed after this record, answered by a message to ACT."""

    key: str
    """Of the step that the ask is."""
    to: tuple[str, str]
    """Kind and key of the actor that is asked."""
    body: msgspec.Raw
    at_ms: int
    """When it was asked, milliseconds since 1970."""
    deadline_ms: int
    """When nobody waits for the answer any more."""
    chain: tuple[str, ...] = ()
    """The actors that wait for it, the asker last."""


class Slept(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type", gc=False):
    """A step of the open turn sleeps until a time; after a crash only the rest of it is slept."""

    key: str
    """Of the step that the sleep is."""
    due_ms: int
    """Milliseconds since 1970."""


class Suspended(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type", gc=False):
    """The open turn only waits, and a message will come that ends each wait: what it has asked is with the server, and so are
    the timers of its waits. Its message is acknowledged then. Whatever else the turn records ends this."""

    timers: tuple[str, ...]
    """Ids of the timers of its waits."""


class Checkpoint(msgspec.Struct, frozen=True, tag=True, tag_field="type", gc=False):
    """The handler of the open turn needs no more than this to go on: the steps before are forgotten."""

    state: msgspec.Raw


class CancelAsked(msgspec.Struct, frozen=True, tag=True, tag_field="type", gc=False):
    """Somebody outside wants the open turn to end: its handler is cancelled behind what is recorded before this."""

    reason: str
    act_seq: int
    """Of the order, which overtook what waited."""


class Cause(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Which message a turn answered; the message itself is in ``Begun`` where a turn has steps."""

    box: Box
    id: str
    sender: str = ""
    mark: tuple[int, int] | None = None
    sent_ms: int = 0
    type: Type = ""
    timer: str = ""

    @staticmethod
    def of(letter: Letter) -> "Cause":
        """What the record of its turn says of a letter."""
        return Cause(letter.box, letter.id, letter.sender, letter.mark, letter.sent_ms, letter.type, letter.timer)


class Position(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How far an actor has taken its mailboxes: all up to a sequence of each, and some of ACT ahead of that."""

    in_seq: int = 0
    act_seq: int = 0
    ahead: tuple[int, ...] = ()
    """Sequences in ACT behind ``act_seq`` that have been taken out of turn."""


class Turn(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type", gc=False):
    """All that one turn decided, and how far the mailboxes have been taken with it."""

    cause: Cause
    in_seq: int
    act_seq: int
    reply: Outcome
    events: tuple[msgspec.Raw, ...] = ()
    sends: tuple[Send, ...] = ()
    timers: tuple[TimerSet, ...] = ()
    ahead: tuple[int, ...] = ()
    at_ms: int = 0
    """When a turn that sends was recorded, milliseconds since 1970 by its node's clock."""


class Failed(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type", gc=False):
    """An attempt at the open turn ended in an exception; its recorded steps stay."""

    message: Letter
    failure: Failure
    attempt: int
    again: tuple[str, ...] = ()
    """Keys of the failed steps that ended it: the next attempt runs them again."""


class Drifted(msgspec.Struct, frozen=True, tag=True, tag_field="type", gc=False):
    """The recorded steps of the open turn no longer fit its handler, which begins anew: what still fits answers by its key."""

    why: str


class Mark(NamedTuple):
    """The last relay taken of one sender: the sequence of its record, the place in it, and when that record was made."""

    sequence: int
    place: int
    sent_ms: int


class SendFailed(msgspec.Struct, frozen=True, tag=True, tag_field="type", gc=False):
    """One send of the last turn can never be delivered; it is a dead letter, and those behind it go on."""

    index: int
    failure: Failure


class Snapshot(msgspec.Struct, frozen=True, tag=True, tag_field="type", gc=False):
    """The actor's image; its record rolls the log up, so it is always the first."""

    image: msgspec.Raw


class Tombstone(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type", gc=False):
    """The actor was deleted: its record rolls the log up and stays, for in an empty log a stale writer would win."""

    position: Position
    marks: dict[str, Mark] = {}


Entry = (
    Begun
    | Started
    | CancelAsked
    | Steps
    | Cancelled
    | Asked
    | Slept
    | Suspended
    | Checkpoint
    | Turn
    | Failed
    | Drifted
    | SendFailed
    | Snapshot
    | Tombstone
)


class Record(msgspec.Struct, frozen=True, gc=False):
    """One append: the entries that became ready together."""

    v: int
    rid: str
    entries: tuple[Entry, ...]
