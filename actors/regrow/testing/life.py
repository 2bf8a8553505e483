"""The life of one process on the stage: from its start to a death that it does not notice."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, TypeVar

from regrow.actors.step import Stepping
from regrow.bus import Address
from regrow.bus.port import Attempted
from regrow.testing.due import Due
from regrow.testing.ledger import Ledger, entries_of
from regrow.testing.observed import Observed
from regrow.testing.points import Point, Tally, What
from regrow.testing.stage import LeftOver, Served, Stage

T = TypeVar("T")

SWEEP_S = 10.0
"""How long the tasks of a dead process may take, in virtual time, to end once the run is over."""


class Killed(BaseException):
    """What a server learns of a process that is gone: its connections break."""


class Life:
    """A process. From its death on nothing of it runs, and nothing that it said without being heard is heard."""

    def __init__(self, stage: Stage, tally: Tally, ledger: Ledger, due: Due, doom: Point | int | None) -> None:
        self.dead = False
        self.left_over: list[LeftOver] = []
        self.died = asyncio.Event()
        self._stage = stage
        self._tally = tally
        self._ledger = ledger
        self.due = due
        """Told of the timers that the process sets."""
        self._doom = doom
        """The point at which it dies, or after how many."""
        self._passed = 0
        self._connections: list[AbstractAsyncContextManager[Any]] = []

    # What the bus asks

    async def around(self, what: What, about: str, call: Callable[[], Awaitable[T]]) -> T:
        """An operation, counted; see ``Living.around``."""
        self._check()
        number = self._tally.next(what, about)
        await self._pass(Point(what, number, "before", about))
        result = await Served(self._stage, call())
        await self._pass(Point(what, number, "after", about))
        return result

    def attempt(self, about: str, call: Callable[[Attempted], None], done: Attempted) -> None:
        """An append that nobody awaits; see ``Living.attempt``."""
        if self.dead:
            return
        number = self._tally.next("append", about)

        def heard(sequence: int | None) -> None:
            if not self.dead and not self._dies(Point("append", number, "after", about)):
                with self._stage.playing(self):
                    done(sequence)

        if not self._dies(Point("append", number, "before", about)):
            with self._stage.playing(None):
                call(heard)

    async def apart(self, call: Callable[[], Awaitable[T]]) -> T:
        """An operation that changes nothing."""
        self._check()
        return await Served(self._stage, call())

    def hears(self, callback: Callable[[T], None]) -> Callable[[T], None]:
        """The callback for as long as the process lives."""

        def hear(said: T) -> None:
            if not self.dead:
                with self._stage.playing(self):
                    callback(said)

        return hear

    @asynccontextmanager
    async def held(self, connection: AbstractAsyncContextManager[T]) -> AsyncGenerator[T]:
        """Something that the server keeps for the process."""
        self._check()
        value = await Served(self._stage, connection.__aenter__())
        self._connections.append(connection)
        try:
            yield value
        finally:
            if connection in self._connections:
                self._connections.remove(connection)
                await Served(self._stage, connection.__aexit__(*sys.exc_info()))

    def recorded(self, address: Address, data: bytes) -> None:
        """A record was stored."""
        self._ledger.recorded(address, data)

    def about(self, data: bytes) -> str:
        """What a record holds."""
        return entries_of(data)

    # What the stage asks

    def resumes(self) -> None:
        """A handler goes on after an await, or does not."""
        self._dies(Point("await", self._tally.next("await")))

    def watched(self, handler: Stepping) -> Stepping:
        """A handler whose steps are seen."""
        return handler if isinstance(handler, Observed) else Observed(handler, self, self._ledger)

    async def around_step(self, about: str, body: Callable[[], Awaitable[T]]) -> T:
        """The run of a tool's body, which is the process's own."""
        self._check()
        number = self._tally.next("step", about)
        await self._pass(Point("step", number, "before", about))
        result = await body()
        await self._pass(Point("step", number, "after", about))
        return result

    # The end

    async def disconnect(self) -> None:
        """The server notices that the process is gone."""
        self._ledger.died()
        for connection in reversed(self._connections):
            with suppress(Killed):
                await connection.__aexit__(Killed, Killed(), None)
        self._connections.clear()

    async def sweep(self) -> None:
        """Ends its tasks, once nothing that they do can matter."""
        await self._stage.sweep(self, SWEEP_S)

    async def _pass(self, point: Point) -> None:
        if self._dies(point):
            await self._stage.create_future()  # nobody will ever run this task again

    def _dies(self, point: Point) -> bool:
        if point.side == "after":
            self._tally.note(point)
        self._passed += 1
        if self._passed != self._doom if isinstance(self._doom, int) else not point.is_same(self._doom):
            return False
        self.dead = True
        with self._stage.playing(None):
            self.died.set()
        return True

    def _check(self) -> None:
        """The dead ask for nothing; they are swept away."""
        if self.dead:
            raise asyncio.CancelledError
