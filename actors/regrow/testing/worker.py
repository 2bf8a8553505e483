"""A node that kills itself at a given moment: ``python -m regrow.testing.worker PATH URL NAME WITNESS PASSED POINT``.

It hosts the application at PATH under NAME, appends to WITNESS which steps run, and to PASSED which points it comes to; at POINT
(``-`` for none) it gets SIGKILL, from itself.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import msgspec

from regrow.actors.step import Call, StepContext, current_handler
from regrow.actors.step import serve as serve_in
from regrow.actors.witness import append_sighting
from regrow.bus import Address, open_bus
from regrow.bus.connection import ServerAddress, connect
from regrow.bus.port import Attempted
from regrow.testing.application import load
from regrow.testing.due import Due
from regrow.testing.hosting import replaced
from regrow.testing.ledger import entries_of
from regrow.testing.mortal_bus import MortalBus
from regrow.testing.observed import Observed
from regrow.testing.points import NO_POINT, Point, Tally, What, point

T = TypeVar("T")


class Suicide:
    """This process, as its bus and its handlers see it; it dies for real."""

    def __init__(self, witness: Path, passed: Path, doom: Point | None) -> None:
        self.due = Due()
        self._witness = str(witness)
        self._passed = os.open(passed, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._tally = Tally()
        self._doom = doom

    async def around(self, what: What, about: str, call: Callable[[], Awaitable[T]]) -> T:
        number = self._tally.next(what)
        self._come_to(Point(what, number, "before", about))
        result = await call()
        self._come_to(Point(what, number, "after", about))
        return result

    async def around_step(self, about: str, body: Callable[[], Awaitable[T]]) -> T:
        return await self.around("step", about, body)

    def attempt(self, about: str, call: Callable[[Attempted], None], done: Attempted) -> None:
        number = self._tally.next("append")

        def heard(sequence: int | None) -> None:
            self._come_to(Point("append", number, "after", about))
            done(sequence)

        self._come_to(Point("append", number, "before", about))
        call(heard)

    async def apart(self, call: Callable[[], Awaitable[T]]) -> T:
        return await call()

    def hears(self, callback: Callable[[T], None]) -> Callable[[T], None]:
        return callback

    def held(self, connection: AbstractAsyncContextManager[T]) -> AbstractAsyncContextManager[T]:
        return connection

    def recorded(self, address: Address, data: bytes) -> None:
        """The log is asked when all is over."""

    def about(self, data: bytes) -> str:
        return entries_of(data)

    def resumes(self) -> None:
        """A handler goes on after an await, or does not."""
        self._come_to(Point("await", self._tally.next("await")))

    def executed(self, call: Call, context: StepContext) -> None:
        """A tool's body is about to run."""
        append_sighting(self._witness, context)

    def _come_to(self, point: Point) -> None:
        os.write(self._passed, msgspec.json.encode(point) + b"\n")
        if self._doom is not None and self._doom.is_same(point):
            os.kill(os.getpid(), signal.SIGKILL)


class WatchedLoop(asyncio.SelectorEventLoop):
    """An event loop that tells of every await of a handler."""

    def __init__(self, life: Suicide) -> None:
        self._life = life
        self._known: WeakSet[asyncio.Task[Any]] = WeakSet()
        super().__init__()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        owner: asyncio.Task[Any] | None = getattr(callback, "__self__", None)
        handler = current_handler(context) if context is not None and isinstance(owner, asyncio.Task) else None
        if handler is None or context is None or owner is None:
            return super().call_soon(callback, *args, context=context)
        if owner not in self._known:
            self._known.add(owner)
            if not isinstance(handler, Observed):
                serve_in(Observed(handler, self._life, self._life), context)

        def step(*given: object) -> None:
            self._life.resumes()
            callback(*given)

        return super().call_soon(step, *args, context=context)


async def serve(path: str, url: str, name: str, life: Suicide) -> None:
    """Hosts the application until it is killed."""
    system = replaced(load(path), name=name)
    client = await connect(ServerAddress(url=url), name=f"regrow-worker-{os.getpid()}")
    async with open_bus(client, name) as bus, system.host(MortalBus(bus, life), url=url) as node:
        await node.wait_stopped()


def main() -> None:
    """Runs as a process of its own."""
    path, url, name, witness, passed, doom = sys.argv[1:7]
    life = Suicide(Path(witness), Path(passed), None if doom == NO_POINT else point(doom))
    with asyncio.Runner(loop_factory=lambda: WatchedLoop(life)) as runner:
        runner.run(serve(path, url, name, life))


if __name__ == "__main__":
    main()
