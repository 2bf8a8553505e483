"""A feed: what happened, in order, for one reader in the same event loop, without growing when nobody reads."""

import asyncio
from collections import deque
from typing import Final, Generic, Self, TypeVar

import structlog

from regrow.supervisor.errors import InvalidOption

T = TypeVar("T")

_log: Final = structlog.get_logger(__name__)


class Feed(Generic[T]):
    """An async iterator over what was put into it; it ends when it is closed and all has been read.

    At most `pending_max` wait to be read. What comes on top is lost, counted in `missed` and logged once each time the
    feed has filled: the oldest are kept, because the first death is the one that explains those after it. Whoever
    finds `missed` risen should look at the state of things instead of at what was told of them.
    """

    def __init__(self, name: str, pending_max: int) -> None:
        if pending_max < 1:
            raise InvalidOption(f"pending_max must be 1 or more, not {pending_max}")
        self.missed = 0
        self._name = name
        self._pending_max = pending_max
        self._pending: deque[T] = deque()
        self._overflowing = False
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, item: T) -> None:
        """Adds it, or counts it as missed."""
        if len(self._pending) < self._pending_max:
            self._pending.append(item)
            self._changed.set()
            return
        self.missed += 1
        if not self._overflowing:
            self._overflowing = True
            _log.warning("feed_full", feed=self._name, pending_max=self._pending_max)

    def close(self) -> None:
        """Nothing more comes; who waits is told so."""
        self._closed = True
        self._changed.set()

    def __len__(self) -> int:
        """How many wait to be read."""
        return len(self._pending)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._pending:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._overflowing = False
        return self._pending.popleft()
