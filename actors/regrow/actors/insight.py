"""What a node of a running application says of itself, as it goes over the wire, and on which subjects. Frozen values.

The subjects stand under the verb ``sys``, as OTP's module for looking into processes is called. No stream takes them: who does not
listen misses it. ``rg.<app>.sys.tree`` is answered by every node.
"""

import time
from typing import Literal, NamedTuple

import msgspec

from regrow.actors.records import Asked
from regrow.actors.waits_for import Path
from regrow.bus import Address, escape
from regrow.supervisor import Crashed, Detail, Exit, TreeInfo, describe

CHILDREN_MAX = 100
"""Children of one supervisor that are shown; of the others there is only the number."""
BRANCHES_MAX = 1_000
"""Children of all supervisors of a node that are shown."""


class Branch(msgspec.Struct, frozen=True):
    """A supervisor and what is below it, or one child."""

    name: str
    type: str
    strategy: str | None
    """None for a worker."""
    state: str
    restarts: int
    cause: str | None
    """What the last incarnation died of; of an exception only its class, for its text may hold what a user wrote."""
    since_ms: int
    """Since when it has been in this state, milliseconds since 1970."""
    detail: Detail
    """What it says of itself, such as how much mail waits."""
    children: tuple["Branch", ...] = ()
    hidden: int = 0
    """Children that are not shown."""


class KindSeen(msgspec.Struct, frozen=True):
    """How many actors of a kind a node has in memory, each counted once. Idle ones that it has let go of are not known to it."""

    kind: str
    active: int = 0
    """Taking mail, or in a turn."""
    waiting: int = 0
    """In a turn that only waits for other actors or a sleep, be it in memory or suspended while other mail waits."""
    parked: int = 0
    """Cannot go on for now; their mail waits."""
    suspended: int = 0
    """By somebody, until he resumes them."""
    idle: int = 0
    mail: int = 0
    """Messages that wait for all of them together."""


class Busy(msgspec.Struct, frozen=True):
    """An actor for which mail waits."""

    actor: str
    mail: int


class OpenAsk(NamedTuple):
    """An open ask as its node has it."""

    waiter: Address
    asked: Asked
    suspended: bool = False
    """Whether the turn that waits is in no process."""


class Wait(msgspec.Struct, frozen=True):
    """An open ask: the turn of one actor waits for the answer of another."""

    waiter: str
    on: str
    step: str
    """The key of the step that the ask is."""
    since_ms: int
    """When it was asked, milliseconds since 1970."""
    deadline_ms: int
    """When nobody waits any more."""
    suspended: bool = False
    """Whether the turn waits in no process: the answer will bring it back."""


def wait_of(ask: OpenAsk) -> Wait:
    """An open ask as it goes over the wire."""
    asked = ask.asked
    return Wait(str(ask.waiter), "/".join(asked.to), asked.key, asked.at_ms, asked.deadline_ms, ask.suspended)


class NodeSeen(msgspec.Struct, frozen=True):
    """One node."""

    id: str
    """Random, made when the node started."""
    host: str
    pid: int
    shards: tuple[int, ...]
    """That it serves."""
    tree: Branch
    kinds: tuple[KindSeen, ...]
    busiest: tuple[Busy, ...]
    """Where the most mail waits, the fullest first."""
    waits: tuple[Wait, ...]
    """The open asks, the oldest first."""
    waits_hidden: int
    """Younger ones that are not shown."""
    cycles: tuple[Path, ...]
    """That it has named and that are not over."""


class Seen(msgspec.Struct, frozen=True):
    """An application, as its nodes answered."""

    app: str
    nodes: tuple[NodeSeen, ...]
    silent: tuple[int, ...]
    """Shards that no node which answered serves: the node that does was too slow, or there is none."""
    waits: tuple[Wait, ...]
    """Of all nodes."""
    cycles: tuple[Path, ...]
    """Actors that wait for one another in a circle, over all nodes; the least one first."""


Verb = Literal["suspend", "resume", "trace"]


class Steered(msgspec.Struct, frozen=True):
    """What a node says of an order."""

    done: bool
    """Whether it changed anything."""
    refused: str = ""
    """Why it was not carried out."""


class OldWaits(msgspec.Struct, frozen=True):
    """What a node tells the others of asks that have been open for long: who waits for whom."""

    node: str
    edges: tuple[tuple[str, str], ...]


def tree_subject(app: str) -> str:
    """Asks every node how it is."""
    return f"rg.{app}.sys.tree"


def order_subject(app: str, verb: str, address: Address | None = None) -> str:
    """Gives an order for one actor to the node that serves it; without an actor the wildcard of all orders."""
    return f"rg.{app}.sys.{verb}.{_tail(address)}"


def trace_subject(app: str, address: Address) -> str:
    """Where the trace of an actor is told."""
    return f"rg.{app}.sys.traced.{_tail(address)}"


def waits_subject(app: str) -> str:
    """Where nodes tell each other who waits for long."""
    return f"rg.{app}.sys.waits"


def branch_of(info: TreeInfo, now_s: float) -> Branch:
    """A tree as it goes over the wire; ``now_s`` is the time of the loop's clock, which ``since`` is of."""
    budget = [BRANCHES_MAX]
    now_ms = time.time_ns() // 1_000_000

    def convert(each: TreeInfo) -> Branch:
        shown: list[Branch] = []
        for child in each.children[:CHILDREN_MAX]:
            if budget[0] > 0:
                budget[0] -= 1
                shown.append(convert(child))
        return Branch(
            each.name,
            each.type,
            each.strategy,
            each.state,
            each.restarts,
            None if each.cause is None else cause_of(each.cause),
            now_ms - int(1000 * max(0.0, now_s - each.since)),
            dict(each.detail),
            tuple(shown),
            len(each.children) - len(shown),
        )

    return convert(info)


def cause_of(cause: Exit) -> str:
    """A cause of death without the text of an exception."""
    return f"crashed with {type(cause.error).__name__}" if isinstance(cause, Crashed) else describe(cause)


def _tail(address: Address | None) -> str:
    return "*.*" if address is None else f"{address.kind}.{escape(address.key)}"
