"""What a schedule does next: pure decisions about due times that have passed, runs under way, and what waits.

A schedule looks at its due times when its timer fires, and with ``skip`` and ``queue`` once more when the run is over. Of the due
times that have passed when it looks, only the last can be on time: the others were missed.
"""

from typing import Literal

import msgspec

from regrow.actors.due import PASSED_MAX, next_due_ms, passed_ms

Overlap = Literal["skip", "queue", "allow"]
"""What happens with a due time that comes while a run is under way: it is left out, it runs afterwards, it runs beside it."""
Missed = Literal["once", "skip", "all"]
"""What happens with due times that passed while nobody served: one run for all of them, none, one each, one by one."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """When a schedule is due, and what becomes of due times that cannot be kept."""

    cron: str
    tz: str
    overlap: Overlap
    missed: Missed
    grace_ms: int
    run_ms: int
    """How long a run is waited for."""


class Agenda(msgspec.Struct, frozen=True):
    """What a schedule has before it."""

    due_ms: int = 0
    """The next due time that has not been looked at, milliseconds since 1970; 0: never."""
    waiting: tuple[int, ...] = ()
    """Due times that are to run and have not yet, oldest first."""

    def timer_ms(self, now_ms: int) -> int:
        """When the schedule has to look again; 0: never."""
        return now_ms if self.waiting else self.due_ms


class Look(msgspec.Struct, frozen=True):
    """What came of looking at the due times that have passed."""

    agenda: Agenda
    run: tuple[int, ...] = ()
    """Due times that run now."""
    dropped: int = 0
    """Due times that will not run; what lies further back than ``PASSED_MAX`` due times is not counted."""


def first(timing: Timing, now_ms: int) -> Agenda:
    """The agenda of a schedule that begins now."""
    return Agenda(_next_ms(timing, now_ms))


def fire(timing: Timing, agenda: Agenda, now_ms: int) -> Look:
    """The timer has fired: what runs, and what the agenda is then. ``now_ms`` is by this node's clock, and may be early."""
    now_ms = now_ms if agenda.waiting else max(now_ms, agenda.due_ms)
    passed = _passed(timing, agenda, now_ms)
    accepted = _accepted(timing, passed, now_ms)
    line, lost = _bounded((*agenda.waiting, *accepted))
    count = len(line) if timing.overlap == "allow" else 1
    after = Agenda(_after(timing, agenda, now_ms), line[count:])
    return Look(after, line[:count], len(passed) - len(accepted) + lost)


def finish(timing: Timing, agenda: Agenda, began_ms: int, now_ms: int) -> Look:
    """The run is over, or has been waited for long enough: what came due meanwhile waits, or is left out.

    What came due after that time was not in the run's way: nobody looked, so the next firing takes it for missed.
    """
    until_ms = min(now_ms, began_ms + timing.run_ms)
    passed = _passed(timing, agenda, until_ms)
    line, lost = agenda.waiting, len(passed)
    if timing.overlap == "queue":
        line, lost = _bounded((*line, *passed))
    return Look(Agenda(_after(timing, agenda, until_ms), line), (), lost)


def _accepted(timing: Timing, passed: tuple[int, ...], now_ms: int) -> tuple[int, ...]:
    if timing.missed == "all":
        return passed
    on_time = bool(passed) and now_ms - passed[-1] <= timing.grace_ms
    return passed[-1:] if timing.missed == "once" or on_time else ()


def _bounded(line: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    return line[-PASSED_MAX:], max(len(line) - PASSED_MAX, 0)


def _passed(timing: Timing, agenda: Agenda, now_ms: int) -> tuple[int, ...]:
    if not agenda.due_ms:
        return ()
    return passed_ms(timing.cron, timing.tz, agenda.due_ms, now_ms) if agenda.due_ms <= now_ms else ()


def _after(timing: Timing, agenda: Agenda, now_ms: int) -> int:
    """The due time that is looked at next, once those up to now have been."""
    return agenda.due_ms if agenda.due_ms > now_ms or not agenda.due_ms else _next_ms(timing, now_ms)


def _next_ms(timing: Timing, after_ms: int) -> int:
    return next_due_ms(timing.cron, timing.tz, after_ms) or 0
