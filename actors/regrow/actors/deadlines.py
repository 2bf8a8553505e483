"""Deadlines of asks: one timer for all that wait equally long, because setting one each costs more than the ask itself."""

import asyncio
from collections import deque
from typing import Any

from regrow.actors.errors import AskTimeout

_Waiting = tuple[float, "asyncio.Future[Any]", object]

TRIM_AT = 64
"""Entries beyond which those already answered are cleared out."""


class Deadlines:
    """Fails futures that are still open when their time is over, with ``AskTimeout``; exact to the loop's clock."""

    def __init__(self) -> None:
        self._lines: dict[float, _Line] = {}

    def add(self, reply: "asyncio.Future[Any]", timeout_s: float, actor: object) -> None:
        """Watches a future that has just been made; ``actor`` is who is asked, as the error shall call it."""
        line = self._lines.get(timeout_s)
        if line is None:
            line = self._lines[timeout_s] = _Line(timeout_s, self)
        waiting = line.waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        waiting.append((line.time() + timeout_s, reply, actor))
        if len(waiting) > line.trim_at:
            line.trim()

    def __len__(self) -> int:
        """Futures that are held, some answered ones among them."""
        return sum(len(line.waiting) for line in self._lines.values())

    def remove(self, timeout_s: float) -> None:
        """Forgets a line in which nobody waits."""
        del self._lines[timeout_s]

    def close(self) -> None:
        """Cancels the timers; whoever still waits must be answered otherwise."""
        for line in self._lines.values():
            line.timer.cancel()
        self._lines.clear()


class _Line:
    """The asks with one time limit: who came first is due first."""

    __slots__ = ("_deadlines", "_loop", "_timeout_s", "time", "timer", "trim_at", "waiting")

    def __init__(self, timeout_s: float, deadlines: Deadlines) -> None:
        self._timeout_s = timeout_s
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self.waiting: deque[_Waiting] = deque()
        self.trim_at = TRIM_AT
        self.timer = self._loop.call_later(timeout_s, self._expire)

    def trim(self) -> None:
        """Behind one slow ask the answered ones pile up; looking at all of them each time their number doubled is cheap."""
        self.waiting = deque(each for each in self.waiting if not each[1].done())
        self.trim_at = max(TRIM_AT, 2 * len(self.waiting))

    def _expire(self) -> None:
        self.trim()
        now = self.time()
        while self.waiting and self.waiting[0][0] <= now:
            _, reply, actor = self.waiting.popleft()
            reply.set_exception(AskTimeout(str(actor), self._timeout_s))
        if self.waiting:
            self.timer = self._loop.call_at(self.waiting[0][0], self._expire)
        else:
            self._deadlines.remove(self._timeout_s)
