"""Why a child died, as frozen values; pure, so that decisions and tests need no task.

The names follow OTP's exit reasons (`normal`, `shutdown`, `killed`, anything else is a crash). `Hung` has no
counterpart there: Erlang can kill a process, Python cannot kill a task.
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


Exit = Normal | Shutdown | Crashed | Exited | Killed | Hung


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
        case _:
            return f"did not stop within {cause.waited_s:g} s and was abandoned"


def _signal_name(signal: int) -> str:
    try:
        return Signals(signal).name
    except ValueError:  # real-time signals between the named ones
        return f"signal {signal}"
