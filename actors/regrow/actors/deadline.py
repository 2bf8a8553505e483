"""``timeout``: a deadline over a block of a handler whose expiry is a step, so that a replay ends the block at the same place.

The clock runs in a task of its own that sleeps as a step and then cancels the task of the block, as ``asyncio.timeout`` does from
a timer. So a turn that waits under such a deadline can be suspended, and the deadline ends its wait.
"""

import asyncio
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self, cast

from regrow.actors.clock import seconds_of
from regrow.actors.step import current_handler


def timeout(duration: float | timedelta) -> "Timeout":
    """Ends the block after so many seconds with ``TimeoutError``: ``async with timeout(30): offers = await ask_all()``.

    As ``asyncio.timeout``, which waits its whole time again on a replay; of this one a replay knows how it ended. In a handler
    that costs two records, or one for less than a second; everywhere else it is ``asyncio.timeout``.
    """
    return Timeout(duration)


class _Sleeper(Protocol):
    """The running handler."""

    async def sleep(self, seconds: float) -> None: ...


class Timeout:
    """One deadline, for one block."""

    def __init__(self, duration: float | timedelta) -> None:
        self._seconds = seconds_of(duration)
        self._plain: asyncio.Timeout | None = None
        self._clock: asyncio.Task[None] | None = None
        self._cancelling = 0
        self._end: Exception | None = None
        """What the clock has ended the block with."""

    def expired(self) -> bool:
        """Whether the time was over before the block."""
        return self._plain.expired() if self._plain is not None else isinstance(self._end, TimeoutError)

    async def __aenter__(self) -> Self:
        if self._plain is not None or self._clock is not None:
            raise RuntimeError("a timeout is for one block: make another one")
        handler = current_handler()
        if handler is None:
            self._plain = asyncio.timeout(self._seconds)
            await self._plain.__aenter__()
            return self
        block = asyncio.current_task()
        assert block is not None
        self._cancelling = block.cancelling()
        self._clock = asyncio.get_running_loop().create_task(self._run(block, cast(_Sleeper, handler)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._plain is not None:
            await self._plain.__aexit__(kind, error, trace)
            return
        block = asyncio.current_task()
        assert block is not None and self._clock is not None
        if await _stopped(self._clock):
            raise asyncio.CancelledError
        if self._end is not None and block.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._end from error

    async def _run(self, block: asyncio.Task[object], handler: _Sleeper) -> None:
        try:
            await handler.sleep(self._seconds)
            self._end = TimeoutError(f"not done within {self._seconds:g} s")
        except Exception as error:  # a step that cannot be: the block, which waits for other things, is told
            self._end = error
        block.cancel()


async def _stopped(clock: asyncio.Task[None]) -> bool:
    """Returns when the clock has stopped, and where need be has said so in the log; whether somebody cancelled meanwhile."""
    cancelled = False
    clock.cancel()
    while not clock.done():
        try:
            await asyncio.wait((clock,))
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
