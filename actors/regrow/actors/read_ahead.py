"""What was read of many logs and not yet taken: read while what came before is being handled, and never much of it.

One task reads. It waits where so much is held; whoever takes, gets what is there and waits only where nothing is.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Self, cast

from regrow.bus import Followed

AHEAD_RECORDS_MAX = 256
AHEAD_BYTES_MAX = 8 * 1024 * 1024
"""No further record is read while so many, or so many bytes, are held: one record more than this is in memory at most."""


class ReadAhead:
    """Reads while its block runs. For one taker."""

    def __init__(self, records: AsyncIterator[Followed]) -> None:
        self._records = cast(AsyncGenerator[Followed], records)  # every log's own is one, and wants to be closed
        self._held: deque[Followed] = deque()
        self._bytes = 0
        self._ended = False
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read(), name="read ahead")
        self._reading.add_done_callback(lambda _: self._ready.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.wait([self._reading])
        if not self._reading.cancelled():
            self._reading.exception()  # seen: it was raised to the taker, or nobody wants to know any more

    def end(self) -> None:
        """From now on nothing is given out; who waits is let go."""
        self._ended = True
        self._ready.set()

    async def take(self, limit: int) -> list[Followed]:
        """The next records in their order, as many as are there, up to ``limit``; waits for one. Empty once ended.

        Raises what reading failed with, behind the last record that was read.
        """
        assert self._reading is not None
        while not self._held and not self._ended:
            if self._reading.done():
                self._reading.result()
                return []
            self._ready.clear()
            await self._ready.wait()
        if self._ended:
            return []
        taken = [self._held.popleft() for _ in range(min(limit, len(self._held)))]
        self._bytes -= sum(len(each.stored.data) for each in taken)
        self._room.set()
        return taken

    async def _read(self) -> None:
        async with aclosing(self._records) as records:
            async for each in records:
                self._held.append(each)
                self._bytes += len(each.stored.data)
                self._ready.set()
                while len(self._held) >= AHEAD_RECORDS_MAX or self._bytes >= AHEAD_BYTES_MAX:
                    self._room.clear()
                    await self._room.wait()
