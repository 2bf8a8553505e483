"""What is known of a supervisor and its children at one moment; frozen values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Union

from regrow.supervisor.exits import Exit
from regrow.supervisor.strategy import Strategy

ChildState = Literal["starting", "running", "restarting", "stopped"]
ChildType = Literal["worker", "supervisor"]
Detail = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """What is known of one child now; `last` is how its latest dead incarnation ended."""

    id: str
    state: ChildState
    restarts: int
    last: Exit | None


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """How many children a supervisor has (OTP's count_children): all, those alive, and all again by type."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeInfo:
    """A supervisor with all that is below it, or one child.

    `strategy` is None for a worker. `cause` is how the latest dead incarnation ended. `since`: when it came into
    this state, in seconds of the event loop's clock, so that `loop.time() - since` is for how long. `detail` is
    what the child itself had to say, such as the depth of its mailbox.
    """

    name: str
    type: ChildType
    strategy: Strategy | None
    state: ChildState
    restarts: int
    cause: Exit | None
    since: float
    children: tuple["TreeInfo", ...] = ()
    detail: Detail = field(default_factory=dict[str, str | int | float | bool | None])


Insight = Callable[[], Union[Detail, TreeInfo]]  # noqa: UP007 - Union takes names that are only known later
"""What a child offers of itself: details, or the tree below it."""
