"""What a running turn waits for, and whether it does nothing but wait: then it can be suspended.

A wait counts here when a message will end it whoever is there: the answer to an ask, the end of a recorded sleep. A handler that
waits for a tool, for a thread, or for the clock in its own way (``asyncio.sleep``, ``asyncio.timeout``) is at work, for nobody
would wake it. Belongs to one event loop.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from gc import get_referents
from types import CellType, CodeType, MethodType
from typing import Any

SOON_MS = 5_000
"""A turn whose wait ends within this time stays where it is: to suspend it and to go on costs two records and a timer."""
SETTLED_TICKS = 64
"""Turns of the event loop in which a handler moves on, if it is going to: what has ended may still be on its way to who waits."""
_EMPTY = CellType()
_THREAD: CodeType = asyncio.to_thread.__code__

Due = dict[str, int]
"""When waits end at the latest, milliseconds since 1970, by the ids of their timers."""


class Waits:
    """The waits of one attempt, beside all that it has under way."""

    __slots__ = ("_open", "_quiet_since_s", "_waiting", "moves")

    def __init__(self) -> None:
        self.moves = 0
        """Rises whenever a step begins, begins to wait, or ends."""
        self._open = 0
        self._waiting: dict[asyncio.Future[Any], tuple[str, int]] | None = None
        self._quiet_since_s = 0.0

    def enter(self) -> None:
        """One more step is under way."""
        self._open += 1
        self.moves += 1

    def leave(self) -> None:
        """It is over."""
        self._open -= 1
        self.moves += 1
        if self._waiting:
            self._quiet_since_s = asyncio.get_running_loop().time()

    @contextmanager
    def waiting(self, end: asyncio.Future[Any], timer: str, due_ms: int) -> Generator[None]:
        """While the block runs, the step under way waits for this and does nothing else."""
        if self._waiting is None:
            self._waiting = {}
        self._waiting[end] = timer, due_ms
        self.moves += 1
        self._quiet_since_s = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            del self._waiting[end]

    def quiet_s(self) -> float | None:
        """For how long all steps under way have been waits; None when there is none, or another step too."""
        if not self._waiting or self._open != len(self._waiting) or any(end.done() for end in self._waiting):
            return None
        return asyncio.get_running_loop().time() - self._quiet_since_s

    def due(self, now_ms: int) -> Due | None:
        """When the waits end; None when one is about to."""
        found = dict(self._waiting.values()) if self._waiting else {}
        return found if found and min(found.values()) > now_ms + SOON_MS else None


def keeps_time(tasks: Iterable[asyncio.Task[Any]], apart: Collection[CodeType]) -> bool:
    """Whether one of these tasks waits for a clock or a thread of its own; what lies below a coroutine of one of ``apart`` is known.

    Looks at what their suspended frames hold: timer handles, as in ``asyncio.sleep``, ``wait`` and ``wait_for``, and timeouts.
    """
    seen = set[int]()
    look = deque[Any](task.get_coro() for task in tasks)
    while look:
        each = look.popleft()
        if id(each) in seen:
            continue
        seen.add(id(each))
        code = getattr(each, "cr_code", None)
        if code in apart:
            continue
        if code is _THREAD:
            return True
        for held in get_referents(each):
            if isinstance(held, CellType) and held != _EMPTY:
                held = held.cell_contents
            if isinstance(held, MethodType):
                held = held.__self__
            if _is_clock(held):
                return True
            if inspect.iscoroutine(held) or inspect.isasyncgen(held) or type(held).__name__.startswith("async_gen"):
                look.append(held)
    return False


def _is_clock(held: object) -> bool:
    if isinstance(held, asyncio.Timeout):
        return held.when() is not None
    return type(held).__name__ == "TimerHandle"
