"""Deadlines of asks: one timer for all that wait equally long, because setting one each costs more than the ask itself.

Asks that are cut short by the deadline of another end whenever that one does; they share a heap and its timer.
"""

import asyncio
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Any

from regrow.actors.errors import AskTimeout
from regrow.actors.local_limit import limit_now

_Waiting = tuple[float, "asyncio.Future[Any]", object]
_CutShort = tuple[float, int, "asyncio.Future[Any]", object, float]

TRIM_AT = 64
"""Entries beyond which those already answered are cleared out."""


class Deadlines:
    """Fails futures that are still open when their time is over, with ``AskTimeout``; exact to the loop's clock."""

    def __init__(self) -> None:
        self._lines: dict[float, _Line] = {}
        self._heap: _Heap | None = None

    def add(self, reply: "asyncio.Future[Any]", timeout_s: float, actor: object) -> float:
        """Watches a future that has just been made; ``actor`` is who is asked, as the error shall call it.

        Returned is when its time is over, by the loop's clock: in the handler of an ask no later than that of this ask. Raises
        ``AskTimeout`` where that is over already.
        """
        line = self._lines.get(timeout_s)
        if line is None:
            line = self._lines[timeout_s] = _Line(timeout_s, self)
        waiting = line.waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        due = line.time() + timeout_s
        limit = limit_now.get()
        if limit and limit[0] < due:
            return self.cut_short(reply, limit[0], actor)
        waiting.append((due, reply, actor))
        if len(waiting) > line.trim_at:
            line.trim()
        return due

    def cut_short(self, reply: "asyncio.Future[Any]", due: float, actor: object) -> float:
        """The same for one whose time is over at ``due``."""
        if self._heap is None:
            self._heap = _Heap()
        self._heap.add(reply, due, actor)
        return due

    def __len__(self) -> int:
        """Futures that are held, some answered ones among them."""
        held = len(self._heap.waiting) if self._heap is not None else 0
        return held + sum(len(line.waiting) for line in self._lines.values())

    def remove(self, timeout_s: float) -> None:
        """Forgets a line in which nobody waits."""
        del self._lines[timeout_s]

    def close(self) -> None:
        """Cancels the timers; whoever still waits must be answered otherwise."""
        for line in self._lines.values():
            line.timer.cancel()
        self._lines.clear()
        if self._heap is not None:
            self._heap.close()
            self._heap = None


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


class _Heap:
    """The asks that end when others do: the next to end is at the top."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = inf
        self._trim_at = TRIM_AT
        self.waiting: list[_CutShort] = []

    def add(self, reply: "asyncio.Future[Any]", due: float, actor: object) -> None:
        left_s = due - self._loop.time()
        if left_s <= 0:
            raise AskTimeout(str(actor), 0.0)
        if len(self.waiting) >= self._trim_at:
            self._trim()
        heappush(self.waiting, (due, next(self._numbers), reply, actor, left_s))
        if due < self._timer_due:
            self._set_timer(due)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _trim(self) -> None:
        self.waiting = [each for each in self.waiting if not each[2].done()]
        heapify(self.waiting)
        self._trim_at = max(TRIM_AT, 2 * len(self.waiting))

    def _set_timer(self, due: float) -> None:
        self.close()
        self._timer_due = due
        self._timer = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._timer, self._timer_due = None, inf
        self._trim()
        now = self._loop.time()
        while self.waiting and self.waiting[0][0] <= now:
            _, _, reply, actor, left_s = heappop(self.waiting)
            reply.set_exception(AskTimeout(str(actor), left_s))
        if self.waiting:
            self._set_timer(self.waiting[0][0])
