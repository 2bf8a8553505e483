"""Progress deadlines: a child that gets nothing done for too long is ended, so that its supervisor starts it anew.

One timer serves all children of a `Lookout`, and saying that progress was made costs one reading of the clock. Belongs to
one event loop. Ends are `TimedOut`, not `Hung`: the child was given a time and has used it up; `Hung` is what it becomes
when it then does not go either.
"""

import asyncio
import heapq
import math
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from types import TracebackType
from typing import Final, Self

import structlog

from regrow.supervisor.errors import InvalidOption
from regrow.supervisor.exits import Exit, TimedOut
from regrow.supervisor.mortal import Mortal

_log: Final = structlog.get_logger(__name__)

LATE_S: Final = 0.1
"""A timer that comes later than this says that the event loop stood still, in which time nobody could make progress."""
CHANCE_S: Final = 1.0
"""Seconds that everybody has at least to make progress after the event loop stood still."""
TRIM_AT: Final = 64
"""Entries beyond which those of the dead are cleared out."""


class Progress:
    """The progress of one child; made by `Lookout.over`."""

    __slots__ = ("_child", "_exempt", "_last", "_lookout", "_since", "_time", "deadline_s", "queued")

    def __init__(self, lookout: "Lookout", child: Mortal, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.queued = False  # the lookout holds an entry for it
        self._lookout = lookout
        self._child: Mortal | None = child
        self._exempt: dict[int, str] = {}
        self._since = 0.0
        self._time = lookout.time
        self._last = self._time()

    def made(self) -> None:
        """Something was done: the deadline is `deadline_s` seconds from now."""
        self._last = self._time()

    @contextmanager
    def exempt(self, what: str) -> Generator[None]:
        """The clock stands still while the block runs, for a wait whose length is not the child's to say.

        Blocks may be nested and may overlap in several tasks: the clock goes on when the last of them is left.
        """
        if not self._exempt:
            self._since = self._time()
        token = self._lookout.number()
        self._exempt[token] = what
        try:
            yield
        finally:
            del self._exempt[token]
            if not self._exempt:
                # Progress may have been made inside, after the clock stood still.
                self._last = min(self._last + self._time() - self._since, self._time())
                self._lookout.queue(self)

    @property
    def waits_for(self) -> tuple[str, ...]:
        """What it is exempt for now."""
        return tuple(self._exempt.values())

    @property
    def due_at(self) -> float | None:
        """When it is ended unless it makes progress, by the loop's clock; None while that stands still, and of the dead."""
        return None if self._exempt or self._child is None else self._last + self.deadline_s

    @property
    def is_over(self) -> bool:
        """True once the child is dead or is no longer looked after."""
        return self._child is None

    def spare(self, now: float) -> None:
        """Gives it at least `CHANCE_S` from now, or its whole deadline where that is shorter."""
        self._last = max(self._last, now + min(CHANCE_S, self.deadline_s) - self.deadline_s)

    def close(self) -> None:
        """Looks after it no longer."""
        if self._child is not None:
            self._child.unwatch(self.bury)
            self.bury()

    def bury(self, cause: Exit | None = None) -> None:
        """Its death calls this."""
        if self._child is not None:
            self._child = None
            self._lookout.drop(self)

    def expire(self, now: float) -> None:
        """Ends the child for want of progress."""
        child = self._child
        assert child is not None
        _log.error("no_progress", child=child.name, deadline_s=self.deadline_s, quiet_s=round(now - self._last, 3))
        self.close()
        child.end(TimedOut(self.deadline_s))


class Lookout:
    """Looks after the progress of many with one timer, while its block runs.

        with Lookout() as lookout:
            progress = lookout.over(start.me, deadline_s=30.0)
            async for item in items:
                with progress.exempt("model call"):
                    answer = await model.complete(item)
                progress.made()

    When the event loop itself stood still past a deadline, everybody has another second at least: who blocks the loop
    is the watchdog's to name, and the others could do nothing.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.time = loop.time
        self._queue: list[tuple[float, int, Progress]] = []
        self._numbers = count()
        self._living: dict[Progress, None] = {}
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for progress in tuple(self._living):
            progress.close()
        self._queue.clear()
        self._arm()

    def __len__(self) -> int:
        """Entries held, a bounded share of them of the dead."""
        return len(self._queue)

    def over(self, child: Mortal, *, deadline_s: float) -> Progress:
        """Looks after a child until it dies: without progress for `deadline_s` seconds it ends of `TimedOut`."""
        if not 0 < deadline_s < math.inf:
            raise InvalidOption(f"deadline_s must be a positive number of seconds, not {deadline_s}")
        progress = Progress(self, child, deadline_s)
        self._living[progress] = None
        child.watch(progress.bury)
        self.queue(progress)
        return progress

    def number(self) -> int:
        """A number not used before."""
        return next(self._numbers)

    def queue(self, progress: Progress) -> None:
        """Holds it until its deadline, unless it is held already, exempt, or over."""
        self._push(progress)
        self._arm()

    def drop(self, progress: Progress) -> None:
        """It is over; once most entries are of such they are cleared out."""
        self._living.pop(progress, None)
        if len(self._queue) > TRIM_AT + 2 * len(self._living):
            self._queue = [each for each in self._queue if not each[2].is_over]
            heapq.heapify(self._queue)
            self._arm()

    def _push(self, progress: Progress) -> None:
        due = progress.due_at
        if due is not None and not progress.queued and not self._closed:
            progress.queued = True
            heapq.heappush(self._queue, (due, self.number(), progress))

    def _arm(self) -> None:
        first = self._queue[0][0] if self._queue else None
        if self._timer is not None:
            if first is not None and not self._timer.cancelled() and self._timer.when() <= first:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(first, self._look, first) if first is not None else None

    def _look(self, planned: float) -> None:
        self._timer = None
        now = self.time()
        if now - planned > LATE_S:
            for _, _, progress in self._queue:
                progress.spare(now)
        while self._queue and self._queue[0][0] <= now:
            _, _, progress = heapq.heappop(self._queue)
            progress.queued = False
            due = progress.due_at
            if due is not None and due <= now:
                progress.expire(now)
            else:
                self._push(progress)
        self._arm()
