"""The hang detector: a thread that sees when an event loop does not go round, and says which line it is in.

Once in `blocked_after_s` the thread asks the loop for a sign of life and looks whether the last one came. It reads the
stack of the loop's thread and which task runs there, and touches neither. All tasks of a loop wait for the one that
blocks it, so the one that is named is the culprit.

While C code holds the GIL no Python thread runs, this one neither: it notices afterwards that it stood still itself, and
says so with what it then finds. For a process that may never come back from such a place use
`faulthandler.dump_traceback_later`, which needs no GIL; there is one for the whole process, so it is the program's to arm.
"""

import asyncio
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

import structlog

from regrow.supervisor.errors import InvalidOption

_log: Final = structlog.get_logger(__name__)

FRAMES_MAX: Final = 24
"""Frames of a blocking stack that are shown, the innermost ones."""
_INSTALLED: Final = (
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
)  # below Python's own, so looked at first
_PYTHONS: Final = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
_OURS: Final = str(Path(__file__).parent)


@dataclass(frozen=True, slots=True)
class Blocked:
    """The event loop has not gone round for `blocked_s` seconds, and has not begun to unless `paused_s` says so.

    `at` is the innermost line of the user's own code (else of an installed package, else of Python), `stack` all lines,
    innermost first: never the value of a variable. `task` is the name of the task that runs, None for a plain callback.
    `paused_s`: for how long the watchdog itself could not run either, because C code held the GIL, or the process was
    stopped from outside: then it is over by now, and `at` is a selector of the event loop unless that was at work.
    """

    blocked_s: float
    task: str | None
    at: str
    stack: tuple[str, ...]
    paused_s: float


@dataclass(frozen=True, slots=True)
class Unblocked:
    """The event loop goes round again after `blocked_s` seconds; `blocked` is what was found, None where it was too short."""

    blocked_s: float
    blocked: Blocked | None


Listener = Callable[[Blocked | Unblocked], None]
NameOf = Callable[[asyncio.Task[Any] | None], str | None]
"""Who runs in this task, or in none; None where that is not known."""


class Watchdog:
    """Watches the event loop in which its block is entered, until that is left.

        async with Watchdog():
            ...

    A blocking of twice `blocked_after_s` seconds is always noticed, one that is shorter than `blocked_after_s` never;
    `blocked_s` counts from the question that found it, which is up to `blocked_after_s` less than the whole.
    Each is logged twice, as `event_loop_blocked` and `event_loop_unblocked`, and told to `listener`, which is called in
    the watchdog's thread and must not raise. So is `name_of`, which says by which name a task is reported where many
    take turns in one; without it, and where it does not know, that is the task's own.
    """

    def __init__(
        self, *, blocked_after_s: float = 0.25, listener: Listener | None = None, name_of: NameOf | None = None
    ) -> None:
        if not 0 < blocked_after_s < threading.TIMEOUT_MAX:
            raise InvalidOption(f"blocked_after_s must be a positive number of seconds, not {blocked_after_s}")
        self._after_s = blocked_after_s
        self._listener = listener
        self._name_of = name_of
        self._left = threading.Event()
        self._thread: threading.Thread | None = None
        self._pulse: _Pulse | None = None
        self._found: Blocked | None = None

    @property
    def rounds(self) -> int:
        """How often the loop has answered since the block was entered."""
        return self._pulse.answers if self._pulse is not None else 0

    async def __aenter__(self) -> Self:
        if self._thread is not None:
            raise InvalidOption("this watchdog is on watch already; make another one")
        self._left.clear()
        self._found = None
        self._pulse = _Pulse(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._watch, args=(self._pulse, threading.get_ident()), name="watchdog")
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._left.set()
            thread.join()  # it waits for nothing but this

    def _watch(self, pulse: "_Pulse", ident: int) -> None:
        main = threading.main_thread()
        pulse.ask()
        planned = time.monotonic() + self._after_s
        # A main thread that ends without leaving the block must not wait for this one.
        while not self._left.wait(max(0.0, planned - time.monotonic())) and main.is_alive():
            now = time.monotonic()
            if now >= planned:
                self._look(pulse, ident, now, now - planned)
                planned = time.monotonic() + self._after_s
        self._close(time.monotonic() - pulse.asked_at if pulse.is_open else pulse.took_s)

    def _look(self, pulse: "_Pulse", ident: int, now: float, late_s: float) -> None:
        paused_s = late_s if late_s >= self._after_s else 0.0
        if not pulse.is_open:
            self._close(pulse.took_s)
            pulse.ask()
            if paused_s:  # between two questions: what held the GIL is mostly still where it let go of it
                self._find(pulse, ident, paused_s, paused_s)
        elif self._found is None and now - pulse.asked_at >= self._after_s:
            self._find(pulse, ident, now - pulse.asked_at, paused_s)

    def _find(self, pulse: "_Pulse", ident: int, blocked_s: float, paused_s: float) -> None:
        found = _find(ident, self._running(pulse.loop), blocked_s, paused_s)
        if found is not None and (paused_s or pulse.is_open):  # else the stack may be of what came after
            self._found = found
            self._report(found)

    def _running(self, loop: asyncio.AbstractEventLoop) -> str | None:
        task = asyncio.current_task(loop)
        known = self._name_of(task) if self._name_of is not None else None
        return known or (task.get_name() if task is not None else None)

    def _close(self, took_s: float) -> None:
        found, self._found = self._found, None
        if found is not None:
            self._report(Unblocked(max(took_s, found.blocked_s), found))
        elif took_s >= self._after_s:
            self._report(Unblocked(took_s, None))

    def _report(self, report: Blocked | Unblocked) -> None:
        match report:
            case Blocked():
                _log.warning(
                    "event_loop_blocked",
                    blocked_s=round(report.blocked_s, 3),
                    task=report.task,
                    at=report.at,
                    frames=report.stack,  # `stack` is a word of structlog's own
                    paused_s=round(report.paused_s, 3),
                )
            case Unblocked(blocked_s, found):
                task, at = (found.task, found.at) if found is not None else (None, None)
                _log.warning("event_loop_unblocked", blocked_s=round(blocked_s, 3), task=task, at=at)
        if self._listener is not None:
            self._listener(report)


class _Pulse:
    """A question to the loop, which it answers when it goes round."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.asked_at = 0.0
        self.took_s = 0.0
        self.is_open = False
        self.answers = 0

    def ask(self) -> None:
        self.is_open, self.asked_at = True, time.monotonic()
        try:
            self.loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop was closed: nobody can be blocked in it
            self.is_open, self.took_s = False, 0.0

    def _answer(self) -> None:
        self.took_s = time.monotonic() - self.asked_at
        self.answers += 1
        self.is_open = False


def _find(ident: int, task: str | None, blocked_s: float, paused_s: float) -> Blocked | None:
    """What the loop's thread is in now; None when that thread is gone."""
    frame = sys._current_frames().get(ident)  # pyright: ignore[reportPrivateUsage]  # there is no other way to another thread's stack
    if frame is None:
        return None
    lines = tuple(_lines(frame))
    _, at = min(lines, key=lambda each: each[0])  # the first of them, which is the innermost
    stack = tuple(line for _, line in lines[:FRAMES_MAX])
    return Blocked(blocked_s, task, at, stack, paused_s)


def _lines(frame: FrameType | None) -> Iterator[tuple[int, str]]:
    """Each frame as text, innermost first, after how far it is from the user's own code: 1 installed, 2 Python's or ours."""
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file == asyncio.events.__file__ and code.co_qualname == "Handle._run":
            return  # from here on it is the event loop, and how that was started
        far = 1 if file.startswith(_INSTALLED) else 2 if file.startswith(("<", _OURS, *_PYTHONS)) else 0
        yield far, f"{file}:{frame.f_lineno} {code.co_qualname}"
        frame = frame.f_back
