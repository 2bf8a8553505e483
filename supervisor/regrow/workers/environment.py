"""What a restarted process is told of the one before it, in its environment, for programs in any language; pure.

`REGROW_CAUSE` is JSON, `{"cause": "Killed", "signal": 9}`, absent at the first start; `REGROW_RESTARTS` is a number.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from regrow.supervisor import Start
from regrow.supervisor.exits import (
    Crashed,
    Exit,
    Exited,
    Hung,
    Killed,
    NodeLost,
    NoProcess,
    Normal,
    OutOfMemory,
    Poison,
    Preempted,
    Shutdown,
    TimedOut,
)
from regrow.workers.errors import ChildError

CAUSE: Final = "REGROW_CAUSE"
RESTARTS: Final = "REGROW_RESTARTS"
TEXT_MAX: Final = 1000  # characters of an error's text

_CAUSES: Final[Mapping[str, type[Any]]] = {
    each.__name__: each
    for each in (
        Normal,
        Shutdown,
        Exited,
        Killed,
        Hung,
        OutOfMemory,
        TimedOut,
        Preempted,
        NodeLost,
        Poison,
        NoProcess,
    )
}


@dataclass(frozen=True, slots=True)
class Begun:
    """What a Python child in its own process is told when it starts: the members of `Start` that can go there.

    `cause` is how the incarnation before it died, None for the first; `restarts` counts the ones before it; `ready()`
    lets its siblings start.
    """

    cause: Exit | None
    restarts: int
    ready: Callable[[], None]


def told(start: Start) -> dict[str, str]:
    """The environment variables that say what `start` says."""
    restarts = {RESTARTS: str(start.restarts)}
    return restarts if start.cause is None else {CAUSE: cause_to_json(start.cause), **restarts}


def begun(environ: Mapping[str, str], ready: Callable[[], None]) -> Begun:
    """What the environment says, for a Python child; `ready` is how it tells that it is."""
    cause = environ.get(CAUSE)
    return Begun(None if cause is None else cause_from_json(cause), int(environ.get(RESTARTS, "0")), ready)


def cause_to_json(cause: Exit) -> str:
    """The cause as one JSON object: `cause` names its class, the other members are its fields."""
    if isinstance(cause, Crashed):
        name, text = named(cause.error)
        return json.dumps({"cause": "Crashed", "error": name, "message": text})
    return json.dumps({"cause": type(cause).__name__, **asdict(cause)})


def cause_from_json(text: str) -> Exit:
    """The cause that `cause_to_json` wrote; the error of a crash comes as a `ChildError`."""
    fields = json.loads(text)
    name = fields.pop("cause")
    if name == "Crashed":
        return Crashed(ChildError(fields["error"], fields["message"]))
    cause: Exit = _CAUSES[name](**fields)
    return cause


def named(error: BaseException) -> tuple[str, str]:
    """The class of an error by name, and its text, cut at `TEXT_MAX` characters."""
    if isinstance(error, ChildError):
        return error.type_name, error.message[:TEXT_MAX]
    return type(error).__name__, str(error)[:TEXT_MAX]
