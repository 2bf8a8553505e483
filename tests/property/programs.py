"""Programs: what a handler may do with plain asyncio, as a small tree."""

from typing import Literal

import msgspec

Losers = Literal["cancel", "await", "leave"]
Deadline = Literal["timeout", "wait_for", "durable"]
Kind = Literal["work", "look", "thread", "flaky", "route", "burst", "own"]


class Part(msgspec.Struct, frozen=True, tag=True):
    """Anything in a program."""


class Call(Part, frozen=True):
    """A step. Its outcome is a token that no other execution has."""

    tool: Kind
    argument: int
    ticks: int = 0
    """Turns of the event loop that the body takes, in the odd lives; in the even ones what was slow is fast."""
    emit: bool = False


class Ask(Part, frozen=True):
    """A durable ask to another actor, which runs a step of its own and may refuse."""

    argument: int
    refused: bool = False
    emit: bool = False


class Ticks(Part, frozen=True):
    """So many turns of the event loop."""

    number: int


class Raise(Part, frozen=True):
    """An exception of the handler's own."""


class Sequence(Part, frozen=True):
    parts: tuple["Node", ...]


class Gather(Part, frozen=True):
    parts: tuple["Node", ...]
    keep_errors: bool = False


class Group(Part, frozen=True):
    """A TaskGroup: the first that fails cancels the others."""

    parts: tuple["Node", ...]


class Race(Part, frozen=True):
    """``asyncio.wait(FIRST_COMPLETED)``."""

    parts: tuple["Node", ...]
    losers: Losers


class Completed(Part, frozen=True):
    """``asyncio.as_completed``, of which so many are taken; the others go on, or are cancelled where they were given as tasks."""

    parts: tuple["Node", ...]
    take: int
    tasks: bool = False


class Timeout(Part, frozen=True):
    """``asyncio.timeout``, ``wait_for`` or ``regrow.actors.timeout``. One that fires guards the body and then a step that never ends."""

    body: "Node"
    argument: int
    after_s: float
    fires: bool = False
    by: Deadline = "timeout"


class Shield(Part, frozen=True):
    """A shielded task whose waiter times out, while it goes on with ``late``; it is awaited in the end, or left."""

    body: "Node"
    late: "Node"
    after_s: float
    awaited: bool = True
    durable: bool = False


class Repeat(Part, frozen=True):
    """A loop with equal arguments."""

    body: "Node"
    times: int


class Catch(Part, frozen=True):
    """``except Exception``."""

    body: "Node"
    fallback: "Node"


class Compensate(Part, frozen=True):
    """``except CancelledError``: a step, then the cancellation goes on."""

    body: "Node"
    undo: Call


class Branch(Part, frozen=True):
    """``if``, by the outcome seen last."""

    even: "Node"
    odd: "Node"


class Generate(Part, frozen=True):
    """An async generator with a step for each item and one at its end, left after so many items."""

    parts: tuple["Node", ...]
    take: int
    end: Call


class Thread(Part, frozen=True):
    """``to_thread``: of a plain function, or of one that calls a tool from there."""

    argument: int
    calls: bool


Node = (
    Call
    | Ask
    | Ticks
    | Raise
    | Sequence
    | Gather
    | Group
    | Race
    | Completed
    | Timeout
    | Shield
    | Repeat
    | Catch
    | Compensate
    | Branch
    | Generate
    | Thread
)
