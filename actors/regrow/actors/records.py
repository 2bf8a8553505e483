"""The records of an actor's log, as they lie on the wire: one record is one NATS message with the entries of one append.

A value that belongs to the user (a message, an event, a reply, a state) stays raw JSON here; the actor's definition decodes it.
"""

import msgspec

from regrow.actors.errors import Failure
from regrow.bus import Box

VERSION = 1
"""The ``v`` of every record that this build writes and reads."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a turn or a step ended: with a value (raw JSON) or with a failure."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    """Never a union with None: msgspec reads nothing but null as ``Raw | None``."""
    failure: Failure | None = None


class Letter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message as it came out of a mailbox, with all that its turn needs."""

    box: Box
    sequence: int
    """Its place in the mailbox's stream: within one box an actor's letters come in rising sequence."""
    id: str
    body: msgspec.Raw
    reply: str = ""
    sender: str = ""
    """The actor whose turn sent it; empty for a message from outside and for an ask."""
    mark: tuple[int, int] | None = None
    """For a relay: the sequence of the sender's record and the position in it; it only ever rises per sender."""
    chain: tuple[str, ...] = ()
    """For an ask: the actors that wait for it."""


class Send(msgspec.Struct, frozen=True):
    """A decided message to another actor, relayed after the record that holds it."""

    kind: str
    key: str
    body: msgspec.Raw


class Begun(msgspec.Struct, frozen=True, tag=True, tag_field="type"):
    """A turn that has steps has begun; its message is here, so that the log alone is enough to go on."""

    message: Letter


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finished step, or one whose task was cancelled before it saw an outcome."""

    key: str
    tool: str
    arguments: msgspec.Raw
    outcome: Outcome = Outcome()
    attempt: int = 1
    cancelled: bool = False


class Steps(msgspec.Struct, frozen=True, tag=True, tag_field="type"):
    """Steps in the order in which they completed."""

    steps: tuple[Step, ...]


class Cancelled(msgspec.Struct, frozen=True, tag=True, tag_field="type"):
    """A step was cancelled, or timed out, and the handler went on from there: it never runs again in this turn."""

    step: Step


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which message a turn answered; the message itself is in ``Begun`` where a turn has steps."""

    box: Box
    id: str
    sender: str = ""
    mark: tuple[int, int] | None = None


class Turn(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type"):
    """All that one turn decided, and how far the mailboxes have been taken with it."""

    cause: Cause
    in_seq: int
    act_seq: int
    reply: Outcome
    events: tuple[msgspec.Raw, ...] = ()
    sends: tuple[Send, ...] = ()


class Failed(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type"):
    """An attempt at the open turn ended in an exception; its recorded steps stay."""

    message: Letter
    failure: Failure
    attempt: int
    again: tuple[str, ...] = ()
    """Keys of the failed steps that ended it: the next attempt runs them again."""


class Snapshot(msgspec.Struct, frozen=True, tag=True, tag_field="type"):
    """The actor's image; its record rolls the log up, so it is always the first."""

    image: msgspec.Raw


Entry = Begun | Steps | Cancelled | Turn | Failed | Snapshot


class Record(msgspec.Struct, frozen=True):
    """One append: the entries that became ready together."""

    v: int
    rid: str
    entries: tuple[Entry, ...]
