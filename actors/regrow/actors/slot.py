"""A place among the actors of a kind that are active at once, given back while its actor only waits for another one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self


class Slot:
    """One place of a limit. Enter it to be active; ``away`` lets others be active meanwhile."""

    def __init__(self, limit: asyncio.Semaphore) -> None:
        self._limit = limit
        self._held = False
        self._away = 0

    async def __aenter__(self) -> Self:
        await self._limit.acquire()
        self._held = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._give_back()

    @asynccontextmanager
    async def away(self) -> AsyncGenerator[None]:
        """Gives the place back while the block runs, and waits for one at its end; not when the block raised or was cancelled,
        for then the handler is about to end. Several blocks may run at once."""
        self._away += 1
        self._give_back()
        try:
            yield
        except BaseException:
            self._away -= 1
            raise
        self._away -= 1
        if self._away == 0 and not self._held:
            await self._limit.acquire()
            self._held, held = True, self._held
            if held or self._away:
                self._held = held
                self._limit.release()

    def _give_back(self) -> None:
        if self._held:
            self._held = False
            self._limit.release()
