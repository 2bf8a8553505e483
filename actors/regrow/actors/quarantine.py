"""Turns that processes may have died of run one at a time, so that the one that kills is told from those beside it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

ALONE_FROM = 3
"""The start of a turn from which it runs alone: two processes have died while they were at it."""
ALONE_S = 2.0
"""How long one runs alone at most; it waits for something then, and others may be what kills."""


class Quarantine:
    """One place for all actors of a process."""

    def __init__(self) -> None:
        self._place = asyncio.Lock()

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[Callable[[], None]]:
        """Holds the place while the block runs, for ``ALONE_S`` seconds at most; what it yields gives the place back before."""
        await self._place.acquire()
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._place.release()

        timer = asyncio.get_running_loop().call_later(ALONE_S, give_back)
        try:
            yield give_back
        finally:
            timer.cancel()
            give_back()
