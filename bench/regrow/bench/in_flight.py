"""Many runs in flight when their worker is killed: what runs again, and how soon the first new step begins after the restart."""

import asyncio
import statistics
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec

from regrow.actors.client import Client
from regrow.bench.restarted import (
    APP,
    Again,
    Noted,
    Worker,
    again,
    first_step_ns,
    floor_s,
    medians,
    noted,
    parts_ms,
    recorded,
    working,
)
from regrow.bench.runs_app import Run, Runner
from regrow.bench.sample import Compared, compared
from regrow.bus import EmbeddedServer, NatsBus, open_bus
from regrow.bus.connection import ServerAddress, close, connect
from regrow.bus.server import Durability

TIMEOUT_S = 600.0
POLL_S = 0.01


class InFlight(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    v: int = 1
    runs: int
    steps: int
    """Of each run."""
    pause_ms: int
    """That a step takes."""
    durability: Durability
    loop: str
    by_cli: bool
    """Whether the worker is started by ``regrow run``."""
    first_step_s: Compared
    """From the start of the new process to the first new step; the floor starts a process that reads one of the logs raw."""
    first_step_each_s: list[float]
    all_runs_s: float
    """Until each of the runs had begun a step again, median."""
    parts_ms: dict[str, float]
    """Where the time to the first step goes, medians; empty for ``regrow run``."""
    again: list[Again]
    """In each repeat."""

    @property
    def recorded_again(self) -> int:
        """Recorded steps that ran once more, in all repeats."""
        return sum(each.recorded_again for each in self.again)

    @property
    def recorded_min(self) -> int:
        """The fewest steps that were recorded at a kill."""
        return min(each.recorded for each in self.again)


async def fly(
    folder: Path,
    *,
    runs: int,
    steps: int,
    finished: int,
    pause_ms: int,
    repeat: int,
    loop: str = "asyncio",
    durability: Durability = "disk",
    by_cli: bool = False,
) -> InFlight:
    """``repeat`` times ``runs`` at once, their worker killed when ``finished`` of their steps are over."""
    flights = list[_Flight]()
    async with EmbeddedServer(folder / "store", durability=durability) as server:
        client = await connect(ServerAddress(url=server.url), name="in-flight")
        try:
            async with open_bus(client, APP, create=True) as bus:
                for number in range(repeat):
                    flight = _Flight(bus, server.url, folder / f"{number}.txt", loop, by_cli=by_cli)
                    keys = [f"{number}-{run}" for run in range(runs)]
                    await flight.run(keys, Run(steps=steps, pause_ms=pause_ms), finished)
                    flights.append(flight)
        finally:
            await close(client)
    first_s = [each.first_s for each in flights]
    return InFlight(
        runs=runs,
        steps=steps,
        pause_ms=pause_ms,
        durability=durability,
        loop=loop,
        by_cli=by_cli,
        first_step_s=compared(first_s, [each.floor_s for each in flights]),
        first_step_each_s=[round(each, 3) for each in first_s],
        all_runs_s=round(statistics.median(each.all_s for each in flights), 3),
        parts_ms={} if by_cli else medians([each.parts for each in flights]),
        again=[each.again for each in flights],
    )


class _Flight:
    """Runs whose worker is killed once."""

    def __init__(self, bus: NatsBus, url: str, witness: Path, loop: str, *, by_cli: bool) -> None:
        self._bus = bus
        self._url = url
        self._witness = witness
        self._loop = loop
        self._by_cli = by_cli
        self.first_s = self.all_s = self.floor_s = 0.0
        self.parts: dict[str, float] = {}
        self.again = Again(0, 0, 0)

    async def run(self, keys: Sequence[str], work: Run, finished: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            client = Client(self._bus)
            asks = [tasks.create_task(_ask(client, key, work)) for key in keys]
            async with self._working() as first:
                await self._wait_finished(first, finished)
            before = await recorded(self._bus, keys)
            self.floor_s = await floor_s(self._bus, self._url, keys[0], self._witness)
            async with self._working() as second:
                await asyncio.wait(asks)
        lines = noted(self._witness)
        self.first_s = (first_step_ns(lines, second) - second.started_ns) / 1e9
        self.all_s = (_all_ns(lines, second) - second.started_ns) / 1e9
        if not self._by_cli:
            self.parts = parts_ms(lines, second)
        self.again = again(lines, before, second.process.pid)

    def _working(self) -> AbstractAsyncContextManager[Worker]:
        return working(self._url, self._witness, loop=self._loop, by_cli=self._by_cli)

    async def _wait_finished(self, worker: Worker, finished: int) -> None:
        """Returns when so many steps are over: those that another one of their run has followed."""
        while True:
            assert worker.process.returncode is None, f"the worker ended: see {self._witness.with_suffix('.log')}"
            steps = [line.step for line in noted(self._witness) if line.step is not None]
            if len(steps) - len({run for run, _ in steps}) >= finished:
                return
            await asyncio.sleep(POLL_S)


def _all_ns(lines: Sequence[Noted], worker: Worker) -> int:
    """When the last of the runs that this process went on with began its first step there."""
    first: dict[str, int] = {}
    for line in lines:
        if line.pid == worker.process.pid and line.step is not None:
            first.setdefault(line.step[0], line.at_ns)
    return max(first.values())


async def _ask(client: Client, key: str, work: Run) -> None:
    done = await client.ref(Runner, key).ask(work, timeout_s=TIMEOUT_S)
    assert done == work.steps, (key, done)
