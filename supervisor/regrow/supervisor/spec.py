"""What a supervisor needs to know of a child; frozen values, checked when they are built."""

import math
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from regrow.supervisor.backoff import Backoff
from regrow.supervisor.errors import DuplicateChild, InvalidOption
from regrow.supervisor.exits import Exit

Restart = Literal["permanent", "transient", "temporary"]
ShutdownTime = float | Literal["brutal", "infinity"]


@dataclass(frozen=True, slots=True)
class Start:
    """What a child is told when it starts.

    `cause` is how the incarnation before it died, None for the first; `restarts` counts the ones before it.
    `ready()` lets the next sibling start; it may be called from anywhere in the child, more than once.
    """

    cause: Exit | None
    restarts: int
    ready: Callable[[], None]


Run = Callable[[Start], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How one child is started, restarted and stopped (OTP's child specification).

    `restart`: a permanent child is always restarted, a transient one unless it ended cleanly, a temporary one
    never. `shutdown`: the seconds it has to go after it was cancelled, 5 as in OTP; "brutal" waits for
    nothing, "infinity" without end, which suits a child that is a supervisor. `start_timeout_s`: the time it
    has to call `ready()` or finish; OTP waits for ever, but then nobody sees why a tree does not come up.
    """

    id: str
    run: Run
    restart: Restart = "permanent"
    shutdown: ShutdownTime = 5.0
    backoff: Backoff = field(default_factory=Backoff)
    start_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidOption("a child needs an id that is not empty")
        if not callable(self.run):
            raise InvalidOption(f"child {self.id!r}: run must be a coroutine function, not {self.run!r}")
        if self.restart not in get_args(Restart):
            raise InvalidOption(
                f"child {self.id!r}: restart must be permanent, transient or temporary, not {self.restart!r}"
            )
        if not _is_shutdown_time(self.shutdown):
            raise InvalidOption(
                f"child {self.id!r}: shutdown must be seconds, 'brutal' or 'infinity', not {self.shutdown!r}"
            )
        if not 0 < self.start_timeout_s < math.inf:
            raise InvalidOption(
                f"child {self.id!r}: start_timeout_s must be a positive number of seconds, not {self.start_timeout_s}"
            )


def check_children(specs: Sequence[ChildSpec]) -> None:
    """Return when the specs can live under one supervisor; raises `DuplicateChild` for an id used twice."""
    for child, count in Counter(spec.id for spec in specs).items():
        if count > 1:
            raise DuplicateChild(child)


def _is_shutdown_time(value: object) -> bool:
    if isinstance(value, int | float):
        return 0 <= value < math.inf
    return value in ("brutal", "infinity")
