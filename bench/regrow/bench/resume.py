"""A long handler whose process dies near its end, and goes on in a new one: from the start of that process to the reply."""

import asyncio
import time
from pathlib import Path

import msgspec

from regrow.actors.client import Client
from regrow.bench.restarted import APP, Again, again, floor_s, medians, noted, parts_ms, recorded, working
from regrow.bench.runs_app import Run, Runner
from regrow.bench.sample import Compared, compared
from regrow.bus import EmbeddedServer, NatsBus, open_bus
from regrow.bus.connection import ServerAddress, close, connect
from regrow.bus.server import Durability

TIMEOUT_S = 600.0


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    v: int = 1
    steps: int
    die_at: int
    durability: Durability
    loop: str
    done_s: Compared
    """From the start of the new process to the reply; the floor starts a process that reads the log raw."""
    done_each_s: list[float]
    parts_ms: dict[str, float]
    """Where that time goes, medians: ``began`` is the interpreter's, ``imported`` the imports', ``served`` the takeover's,
    ``handler`` the mail's and the log's, ``step`` the replay, ``done`` the steps that were left."""
    again: list[Again]
    """In each repeat."""

    @property
    def recorded_again(self) -> int:
        """Recorded steps that ran once more, in all repeats."""
        return sum(each.recorded_again for each in self.again)


async def resume(
    folder: Path, *, steps: int, die_at: int, repeat: int, loop: str = "asyncio", durability: Durability = "disk"
) -> Resumed:
    """``repeat`` runs one after the other, each killed in the body of step ``die_at``."""
    ours, floors = list[float](), list[float]()
    parts, counted = list[dict[str, float]](), list[Again]()
    async with EmbeddedServer(folder / "store", durability=durability) as server:
        client = await connect(ServerAddress(url=server.url), name="resume")
        try:
            async with open_bus(client, APP, create=True) as bus:
                for number in range(repeat):
                    one = _Once(bus, server.url, folder / f"{number}.txt", loop)
                    await one.run(str(number), steps, die_at)
                    ours.append(one.done_s)
                    floors.append(one.floor_s)
                    parts.append(one.parts)
                    counted.append(one.again)
        finally:
            await close(client)
    return Resumed(
        steps=steps,
        die_at=die_at,
        durability=durability,
        loop=loop,
        done_s=compared(ours, floors),
        done_each_s=[round(each, 3) for each in ours],
        parts_ms=medians(parts),
        again=counted,
    )


class _Once:
    """One run that dies and goes on."""

    def __init__(self, bus: NatsBus, url: str, witness: Path, loop: str) -> None:
        self._bus = bus
        self._url = url
        self._witness = witness
        self._loop = loop
        self.done_s = self.floor_s = 0.0
        self.parts: dict[str, float] = {}
        self.again = Again(0, 0, 0)

    async def run(self, key: str, steps: int, die_at: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            actor = Client(self._bus).ref(Runner, key)
            asked = tasks.create_task(actor.ask(Run(steps=steps, pause_ms=0), timeout_s=TIMEOUT_S))
            async with working(self._url, self._witness, loop=self._loop, die_at=die_at) as first:
                await first.process.wait()
            before = await recorded(self._bus, [key])
            self.floor_s = await floor_s(self._bus, self._url, key, self._witness)
            async with working(self._url, self._witness, loop=self._loop) as second:
                done = await asked
                ended_ns = time.monotonic_ns()
        assert done == steps, (done, steps)
        lines = noted(self._witness)
        self.done_s = (ended_ns - second.started_ns) / 1e9
        self.parts = parts_ms(lines, second)
        self.parts["done"] = self.done_s * 1000 - sum(self.parts.values())
        self.again = again(lines, before, second.process.pid)
