"""A process under a supervisor, with what the test wants to know of each of its incarnations."""

import asyncio
from typing import Any, Protocol

from regrow.supervisor import Backoff, ChildSpec, Start
from regrow.supervisor.errors import Died
from regrow.supervisor.exits import Crashed, Exit


class Runs(Protocol):
    """Whatever has the coroutine of a child."""

    async def run(self, start: Start) -> object: ...


class Observed:
    """A child whose starts, readiness and ends can be waited for."""

    def __init__(self, runs: Runs) -> None:
        self.starts: asyncio.Queue[Start] = asyncio.Queue()
        self.ready: asyncio.Queue[None] = asyncio.Queue()
        self.ends: asyncio.Queue[Exit | BaseException | None] = asyncio.Queue()
        self._runs = runs

    def child(self, **options: Any) -> ChildSpec:
        return ChildSpec(id="observed", run=self.run, backoff=Backoff(first_s=0), **options)

    async def run(self, start: Start) -> None:
        self.starts.put_nowait(start)
        try:
            await self._runs.run(start._replace(ready=lambda: self._ready(start)))
        except Died as died:
            self.ends.put_nowait(died.cause)
            raise
        except Exception as error:
            self.ends.put_nowait(Crashed(error))
            raise
        except asyncio.CancelledError as cancelled:
            self.ends.put_nowait(cancelled)
            raise
        else:
            self.ends.put_nowait(None)

    def _ready(self, start: Start) -> None:
        start.ready()
        self.ready.put_nowait(None)
