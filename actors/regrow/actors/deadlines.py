"""Deadlines of asks: one timer for all that wait equally long, because setting one each costs more than the ask itself."""

import asyncio
from collections import deque
from typing import Any

from regrow.actors.errors import AskTimeout

_Waiting = tuple[float, "asyncio.Future[Any]", str]

TRIM_AT = 64
"""Entries beyond which those already answered are cleared out."""


class Deadlines:
    """Fails futures that are still open when their time is over, with ``AskTimeout``; exact to the loop's clock."""

    def __init__(self) -> None:
        self._lines: dict[float, _Line] = {}

    def add(self, reply: "asyncio.Future[Any]", timeout_s: float, actor: str) -> None:
        """Watches a future that has just been made."""
        line = self._lines.get(timeout_s)
        if line is None:
            line = self._lines[timeout_s] = _Line(timeout_s, self)
        line.add(reply, actor)

    def __len__(self) -> int:
        """Futures that are held, some answered ones among them."""
        return sum(len(line) for line in self._lines.values())

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

    def __init__(self, timeout_s: float, deadlines: Deadlines) -> None:
        self._timeout_s = timeout_s
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._trim_at = TRIM_AT
        self.timer = self._loop.call_later(timeout_s, self._expire)

    def add(self, reply: "asyncio.Future[Any]", actor: str) -> None:
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        waiting.append((self._loop.time() + self._timeout_s, reply, actor))
        if len(waiting) > self._trim_at:
            self._trim()

    def __len__(self) -> int:
        return len(self._waiting)

    def _trim(self) -> None:
        """Behind one slow ask the answered ones pile up; looking at all of them each time their number doubled is cheap."""
        self._waiting = deque(each for each in self._waiting if not each[1].done())
        self._trim_at = max(TRIM_AT, 2 * len(self._waiting))

    def _expire(self) -> None:
        self._trim()
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            _, reply, actor = self._waiting.popleft()
            reply.set_exception(AskTimeout(actor, self._timeout_s))
        if self._waiting:
            self.timer = self._loop.call_at(self._waiting[0][0], self._expire)
        else:
            self._deadlines.remove(self._timeout_s)
