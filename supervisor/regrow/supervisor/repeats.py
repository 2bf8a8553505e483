"""What is alike and comes in crowds is said once and then counted: one line a second says as much as thousands."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

WINDOW_S: Final = 1.0
"""For how long what is like something that was said is counted instead."""

T = TypeVar("T")


class _Seen(Generic[T]):
    __slots__ = ("count", "last")

    def __init__(self, first: T) -> None:
        self.last = first
        self.count = 0


class Repeats(Generic[T]):
    """Calls `say` with the first of its sort at once, and with the last of those that followed within `WINDOW_S` and their number.

    The number is 0 for the first. Belongs to one event loop.
    """

    def __init__(self, say: Callable[[T, int], None]) -> None:
        self._say = say
        self._seen: dict[Hashable, _Seen[T]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, sort: Hashable, item: T) -> None:
        """Say this one, or count it; those of equal `sort` are alike."""
        if (seen := self._seen.get(sort)) is not None:
            seen.count += 1
            seen.last = item
            return
        self._seen[sort] = _Seen(item)
        if self._timer is None:
            self._arm()
        self._say(item, 0)

    def close(self) -> None:
        """Say what was counted, and set no timer any more; the next one is a first one."""
        self._flush()
        self._seen.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self._round)

    def _round(self) -> None:
        self._timer = None
        self._flush()
        if self._seen:
            self._arm()

    def _flush(self) -> None:
        for sort, seen in list(self._seen.items()):
            if seen.count:
                self._say(seen.last, seen.count)
                seen.count = 0
            else:
                del self._seen[sort]
