"""Crash reports of handlers: one log line for an attempt that raised, and one for many that are alike.

A report names the message's type, the class of the error and where it was raised. Never what either says, for that may be a
user's: the caller, the log and the dead letter have the text.
"""

from traceback import StackSummary, walk_tb
from typing import NamedTuple

import structlog

from regrow.bus import Address
from regrow.supervisor.repeats import Repeats

FRAMES = 5
"""Of the traceback, the innermost ones."""

_log = structlog.get_logger(__name__)


class Crash(NamedTuple):
    """An attempt at a turn that raised."""

    actor: Address
    message: str
    """The type of the message."""
    error: Exception
    attempt: int
    again: bool
    """Whether the turn is tried again."""


class CrashReports:
    """The crash reports of one kind of actors. Those of equal message type, error and ``again`` are alike: the first is said at
    once, and those that follow within a second are one line with ``repeated`` in it."""

    def __init__(self) -> None:
        self._repeats: Repeats[Crash] = Repeats(_say)

    def failed(self, crash: Crash) -> None:
        """Reports it, or counts it."""
        self._repeats.add((crash.message, type(crash.error), crash.again), crash)

    def close(self) -> None:
        """Says what was counted; the next one is reported at once."""
        self._repeats.close()


def _say(crash: Crash, repeated: int) -> None:
    more = {"repeated": repeated} if repeated else {}
    _log.warning(
        "turn failed",
        actor=str(crash.actor),
        message=crash.message,
        error=type(crash.error).__name__,
        attempt=crash.attempt,
        again=crash.again,
        frames=frames_of(crash.error),
        **more,
    )


def frames_of(error: BaseException) -> list[str]:
    """Where it was raised, outermost first: file, line and function, without what stands there."""
    frames = StackSummary.extract(walk_tb(error.__traceback__), lookup_lines=False)[-FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
