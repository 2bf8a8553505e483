"""Why a child died, as frozen values; pure, so that decisions and tests need no task.

The names follow OTP's exit reasons (`normal`, `shutdown`, `killed`, anything else is a crash). `Hung` has no
counterpart there: Erlang can kill a process, Python cannot kill a task. Of the causes that OTP does not know none
is clean: whoever was out of memory, late, preempted or lost has not finished its work.
"""

from dataclasses import dataclass
from signal import Signals


@dataclass(frozen=True, slots=True)
class Normal:
    """It returned without having been asked to."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """It went because it was asked to."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """It raised; a cancellation that nobody asked for counts, it is the death of something it awaited."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Exited:
    """Its process ended with a code; 0 is a normal end."""

    code: int


@dataclass(frozen=True, slots=True)
class Killed:
    """Its process was ended by a signal."""

    signal: int


@dataclass(frozen=True, slots=True)
class Hung:
    """It was still there `waited_s` seconds after it was asked to go, and was abandoned."""

    waited_s: float


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """It was ended for using more than `limit_bytes`; `peak_bytes` is the most that was seen, where anybody saw it."""

    limit_bytes: int
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """It ran longer than the `timeout_s` seconds it was given, and was ended."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Preempted:
    """Its machine was taken away, with `grace_s` seconds of notice; no fault of its own."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class NodeLost:
    """The node that it ran on is gone or cannot be reached; what became of it there is not known."""

    node: str


@dataclass(frozen=True, slots=True)
class Poison:
    """Whoever tried it died of it, `deaths` times in a row, so it is not tried again."""

    deaths: int


@dataclass(frozen=True, slots=True)
class NoProcess:
    """It never was, or was gone and forgotten: what a monitor or a link of such a one is told (OTP's `noproc`)."""


Exit = (
    Normal
    | Shutdown
    | Crashed
    | Exited
    | Killed
    | Hung
    | OutOfMemory
    | TimedOut
    | Preempted
    | NodeLost
    | Poison
    | NoProcess
)


def is_clean(cause: Exit) -> bool:
    """True for an end that a transient child is allowed: normal, shutdown, or code 0."""
    return isinstance(cause, Normal | Shutdown) or cause == Exited(0)


def error_of(cause: Exit) -> BaseException | None:
    """The exception behind a crash, to be raised from; None where there was none."""
    return cause.error if isinstance(cause, Crashed) else None


def describe(cause: Exit) -> str:
    """One clause that completes "the child …"."""
    match cause:
        case Normal():
            return "finished"
        case Shutdown():
            return "stopped when asked"
        case Crashed(error):
            text = str(error)
            return f"crashed with {type(error).__name__}" + (f": {text}" if text else "")
        case Exited(code):
            return f"exited with code {code}"
        case Killed(signal):
            return f"was killed by {_signal_name(signal)}"
        case Hung(waited_s):
            return f"did not stop within {waited_s:g} s and was abandoned"
        case _:
            return _describe_rare(cause)


def _describe_rare(cause: OutOfMemory | TimedOut | Preempted | NodeLost | Poison | NoProcess) -> str:
    match cause:
        case OutOfMemory(limit_bytes, None):
            return f"used more memory than its limit of {limit_bytes} bytes"
        case OutOfMemory(limit_bytes, peak_bytes):
            return f"used more memory than its limit of {limit_bytes} bytes: {peak_bytes}"
        case TimedOut(timeout_s):
            return f"did not finish within {timeout_s:g} s and was ended"
        case Preempted(grace_s):
            return f"was preempted with {grace_s:g} s of notice"
        case NodeLost(node):
            return f"was lost with its node {node}"
        case Poison(deaths):
            return f"was set aside after {deaths} deaths in a row"
        case _:
            return "does not exist"


def _signal_name(signal: int) -> str:
    try:
        return Signals(signal).name
    except ValueError:  # real-time signals between the named ones
        return f"signal {signal}"
