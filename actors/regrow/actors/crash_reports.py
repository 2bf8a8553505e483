"""Crash reports of handlers: one log line for an attempt that raised, and one for many that are alike.

A report names the message's type, the class of the error and where it was raised. Never what either says, for that may be a
user's: the caller, the log and the dead letter have the text. Belongs to one event loop.
"""

import asyncio
from traceback import StackSummary, walk_tb
from typing import NamedTuple

import structlog

from regrow.bus import Address

WINDOW_S = 1.0
"""For how long attempts like one that was reported are counted instead."""
FRAMES = 5
"""Of the traceback, the innermost ones."""

_log = structlog.get_logger(__name__)


class Crash(NamedTuple):
    """An attempt at a turn that raised. Those of a kind with equal message type, error and ``again`` are alike."""

    actor: Address
    message: str
    """The type of the message."""
    error: Exception
    attempt: int
    again: bool

    @property
    def sort(self) -> tuple[str, type[Exception], bool]:
        """What is alike has the same."""
        return self.message, type(self.error), self.again


class _Repeats:
    """How often the same came since the last line about it, and the last of them."""

    def __init__(self, crash: Crash) -> None:
        self.crash = crash
        self.count = 0


class CrashReports:
    """The crash reports of one kind of actors."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, type[Exception], bool], _Repeats] = {}
        self._timer: asyncio.TimerHandle | None = None

    def failed(self, crash: Crash) -> None:
        """Reports it at once, or counts it where one like it was reported in the last second."""
        seen = self._seen.get(crash.sort)
        if seen is not None:
            seen.crash, seen.count = crash, seen.count + 1
            return
        self._seen[crash.sort] = _Repeats(crash)
        _say(crash)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self._look)

    def close(self) -> None:
        """Says what was counted; the next one is reported at once."""
        self._flush()
        self._seen.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._flush()
        self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self._look) if self._seen else None

    def _flush(self) -> None:
        for sort, seen in list(self._seen.items()):
            if seen.count:
                _say(seen.crash, repeated=seen.count)
                seen.count = 0
            else:
                del self._seen[sort]


def _say(crash: Crash, **more: int) -> None:
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
