"""One timer for all children of a supervisor that are starting: most are ready long before it would ring."""

import asyncio
from typing import Protocol


class Starting(Protocol):
    """Who has to be ready in time."""

    def overdue(self) -> None:
        """Called when its time is over; must not raise."""
        ...


class Deadlines:
    """Times by which someone must be ready, in seconds of the loop's clock.

    Setting and dropping one is an entry in a dict; the timer is set for the first of them and, when that one was
    dropped meanwhile, for the next. It is set while anybody waits, and at most for one more round. `loop` is the
    running loop, kept here because asking for it costs a system call each time.
    """

    __slots__ = ("_at", "_timer", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._at: dict[Starting, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def put(self, who: Starting, at: float) -> None:
        """`who.overdue()` is called at this time, unless it is dropped before."""
        self._at[who] = at
        if self._timer is None or at < self._timer.when():
            self._arm(at)

    def drop(self, who: Starting) -> None:
        """Its time does not count any more; does nothing when there is none."""
        self._at.pop(who, None)

    def close(self) -> None:
        """Forget all, and the timer."""
        self._at.clear()
        self._disarm()

    def _arm(self, at: float) -> None:
        self._disarm()
        self._timer = self.loop.call_at(at, self._ring, at)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self, now: float) -> None:
        self._timer = None
        for who in [who for who, at in self._at.items() if at <= now]:
            del self._at[who]
            who.overdue()
        if self._at:
            self._arm(min(self._at.values()))
