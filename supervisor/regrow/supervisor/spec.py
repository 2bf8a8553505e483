"""What a supervisor needs to know of a child; frozen values, checked when they are built."""

import math
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from regrow.supervisor.backoff import Backoff
from regrow.supervisor.errors import DuplicateChild, InvalidOption
from regrow.supervisor.exits import Exit
from regrow.supervisor.info import ChildType, Insight
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.strategy import AutoShutdown

Restart = Literal["permanent", "transient", "temporary"]
RestartRule = Restart | Callable[[Exit], Restart]
BackoffRule = Backoff | Callable[[Exit], Backoff]
ShutdownTime = float | Literal["brutal", "infinity"]


class Start(NamedTuple):
    """What a child is told when it starts.

    `cause` is how the incarnation before it died, None for the first; `restarts` counts the ones before it.
    `ready()` lets the next sibling start; it may be called from anywhere in the child, more than once. `me` is
    this incarnation, for links, monitors and names. `offer(insight)` says what `tree()` shows of it beyond its
    state: a function that returns a mapping, such as the depth of its mailbox, and is called when someone looks.
    """

    cause: Exit | None
    restarts: int
    ready: Callable[[], None]
    me: Mortal
    offer: Callable[[Insight], None]


Run = Callable[[Start], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How one child is started, restarted and stopped (OTP's child specification).

    `restart`: a permanent child is always restarted, a transient one unless it ended cleanly, a temporary one
    never. `shutdown`: the seconds it has to go after it was cancelled, 5 as in OTP; "brutal" waits for
    nothing, "infinity" without end, which suits a child that is a supervisor. `start_timeout_s`: the time it
    has to call `ready()` or finish; OTP waits for ever, but then nobody sees why a tree does not come up.

    `restart` and `backoff` may each be a function of the cause of death, so that a child out of memory waits
    longer than one that lost a connection; one that raises ends the supervisor with that error. `significant`:
    its end may end the supervisor, see `auto_shutdown` there; never together with "permanent". `type` is what
    `count_children` counts it as.
    """

    id: str
    run: Run
    restart: RestartRule = "permanent"
    shutdown: ShutdownTime = 5.0
    backoff: BackoffRule = field(default_factory=Backoff)
    start_timeout_s: float = 30.0
    significant: bool = False
    type: ChildType = "worker"

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidOption("a child needs an id that is not empty")
        if not callable(self.run):
            raise InvalidOption(f"child {self.id!r}: run must be a coroutine function, not {self.run!r}")
        if not callable(self.restart) and self.restart not in get_args(Restart):
            raise InvalidOption(
                f"child {self.id!r}: restart must be permanent, transient or temporary, not {self.restart!r}"
            )
        if self.significant and self.restart == "permanent":
            raise InvalidOption(f"child {self.id!r}: a significant child must be transient or temporary, not permanent")
        if self.type not in get_args(ChildType):
            raise InvalidOption(f"child {self.id!r}: type must be worker or supervisor, not {self.type!r}")
        if not _is_shutdown_time(self.shutdown):
            raise InvalidOption(
                f"child {self.id!r}: shutdown must be seconds, 'brutal' or 'infinity', not {self.shutdown!r}"
            )
        if not 0 < self.start_timeout_s < math.inf:
            raise InvalidOption(
                f"child {self.id!r}: start_timeout_s must be a positive number of seconds, not {self.start_timeout_s}"
            )


def check_children(specs: Sequence[ChildSpec], auto_shutdown: AutoShutdown = "never") -> None:
    """Return when the specs can live under one supervisor.

    Raises `DuplicateChild` for an id used twice, `InvalidOption` for a significant child of a supervisor that
    never ends by itself.
    """
    for child, count in Counter(spec.id for spec in specs).items():
        if count > 1:
            raise DuplicateChild(child)
    for spec in specs:
        if spec.significant and auto_shutdown == "never":
            raise InvalidOption(
                f"child {spec.id!r} is significant, and its supervisor's auto_shutdown is 'never'; "
                "say 'any_significant' or 'all_significant' there"
            )


def _is_shutdown_time(value: object) -> bool:
    if isinstance(value, int | float):
        return 0 <= value < math.inf
    return value in ("brutal", "infinity")
