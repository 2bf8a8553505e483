"""Runs that wait: how soon one is where it was after a restart, and what memory it takes.

``replay`` has a run take many steps and wait for the next one, hosts it again and again, and times its way back to where it
waited. ``remember`` has many runs wait, each time in a process of its own (``waiting_app``) on a server of its own.
"""

import asyncio
import gc
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import msgspec

from regrow.bench import waiting_app
from regrow.bench.plan import loop_name
from regrow.bench.raw import raw_log
from regrow.bench.sample import Compared, Sample, compared, sample
from regrow.bench.waiting_app import APP, Gate, Memory, Wait, Waiter, system
from regrow.bench.watched import WatchedBus
from regrow.bus import Address, Delivery, EmbeddedServer, open_bus
from regrow.bus.connection import ServerAddress, close, connect
from regrow.bus.server import Durability
from regrow.bus.subjects import log_number

TIMEOUT_S = 120.0
KEY = "replayed"
DATA_BYTES = len('{"type":"Wait","steps":1,"ends":false}')


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How soon a run is back where it waited."""

    v: int = 1
    steps: int
    durability: Durability
    loop: str
    records: int
    """Messages that its log holds, snapshots among them."""
    bytes: int
    back_ms: Compared
    """From the arrival of its message on a new host until it waits again; the floor reads its log raw."""
    back_min_ms: float
    """The fastest of all: what others do on the machine cannot make it less."""
    read_ms: Sample
    """Of that, until its handler begins: the log is read and folded."""
    replay_ms: Sample
    """Of that, from there until it waits: the recorded steps."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What runs take, by what they do."""

    v: int = 1
    data_bytes: int
    """Of the message of each, which it keeps."""
    memory: list[Memory]


class _Arrival:
    """When the first message reached its actor."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def see(self, _: Delivery) -> None:
        self.at_s = self.at_s or time.perf_counter()


async def replay(folder: Path, *, steps: int, repeat: int, durability: Durability = "process") -> Replayed:
    """``repeat`` new hosts, one after the other."""
    ours, reads, replays, floors = list[float](), list[float](), list[float](), list[float]()
    address, records = Address(Waiter.__regrow__.kind, KEY), 0
    async with EmbeddedServer(folder / "store", durability=durability) as server:
        client = await connect(ServerAddress(url=server.url), name="waiting")
        theirs = await connect(ServerAddress(url=server.url), name="floor")
        async with open_bus(client, APP, create=True) as bus, raw_log(theirs) as raw:
            stream, subject = bus.subjects.log_stream(log_number(address)), bus.subjects.log(address)
            gate = Gate()
            async with system(gate).host(bus) as node:
                await node.ref(Waiter, KEY).tell(Wait(steps=steps))
                await gate.reached.wait()
            for _ in range(repeat):
                gc.collect()
                gate, arrival = Gate(), _Arrival()
                async with asyncio.timeout(TIMEOUT_S), system(gate).host(WatchedBus(bus, arrival.see)):
                    await gate.reached.wait()
                ours.append((gate.reached_s - arrival.at_s) * 1000)
                reads.append((gate.begun_s - arrival.at_s) * 1000)
                replays.append((gate.reached_s - gate.begun_s) * 1000)
                begun_s = time.perf_counter()
                records = await raw.count(stream, subject)
                floors.append((time.perf_counter() - begun_s) * 1000)
            size = sum(len(each.data) for each in await bus.log.read(address))
        await close(theirs)
        await close(client)
    return Replayed(
        steps=steps,
        durability=durability,
        loop=loop_name(),
        records=records,
        bytes=size,
        back_ms=compared(ours, floors),
        back_min_ms=round(min(ours), 3),
        read_ms=sample(reads),
        replay_ms=sample(replays),
    )


async def remember(*, runs: int, traced_runs: int) -> Remembered:
    """Every mode with ``runs``, and once more with ``traced_runs``, for tracing costs memory itself."""
    found: list[Memory] = []
    for mode in ("tool", "ask", "suspended", "unloaded"):
        plain = await _apart(mode, runs, traced=False)
        traced = await _apart(mode, traced_runs, traced=True)
        found.append(msgspec.structs.replace(plain, traced_bytes=traced.traced_bytes, by_file=traced.by_file))
    return Remembered(data_bytes=DATA_BYTES, memory=found)


async def _apart(mode: str, runs: int, *, traced: bool) -> Memory:
    with tempfile.TemporaryDirectory(prefix="regrow-waiting-") as folder:
        async with EmbeddedServer(Path(folder) / "store", durability="process") as server:
            command = [
                sys.executable,
                "-P",
                waiting_app.__file__,
                server.url,
                mode,
                str(runs),
                "yes" if traced else "no",
            ]
            process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
            try:
                said, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            return msgspec.json.decode(said, type=Memory)
