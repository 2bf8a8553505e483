"""Runs that wait, in a process of their own whose memory is theirs. ``python -P waiting_app.py URL MODE RUNS TRACED``.

Modes: ``tool`` (each waits in a tool), ``ask`` (each asks another actor, which waits in a tool), ``suspended`` (each sleeps for a
day and was unloaded), ``unloaded`` (each has ended and was dropped because it was idle). Prints one line of JSON, ``Memory``.
"""

import asyncio
import gc
import os
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec

from regrow.actors import Actor, Kind, Message, Node, Policy, System, command, tool
from regrow.actors.logs import log_to_stderr
from regrow.actors.step import step
from regrow.bench.resident import resident_bytes
from regrow.bus import Bus, open_bus
from regrow.bus.connection import ServerAddress, connect

APP = "waiting"
GATE = "gate"
"""The port under which the runs find their ``Gate``."""
WARM = 200
"""Runs before the first look at the memory, so that what there is once is not counted."""
AT_ONCE = 50
IDLE_S = 0.5
LEAVING = {"unloaded": "passivations", "suspended": "suspensions"}
"""Modes whose runs leave the memory, and what counts them when they do."""
DAY_S = 86_400.0
TIMEOUT_S = 600.0
POLL_S = 0.1
FILES = 25


class Gate:
    """What runs wait for, which never comes, and when they got there."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.reached_s = 0.0
        self.begun_s = 0.0
        self._awaited = 1
        self._never = asyncio.Event()

    def expect(self, count: int) -> None:
        """Sets ``reached`` when so many more have got there."""
        self.reached.clear()
        self._awaited = count

    def begin(self) -> None:
        """A handler has begun."""
        self.begun_s = time.perf_counter()

    async def hold(self) -> int:
        """Waits for ever."""
        self._awaited -= 1
        if not self._awaited:
            self.reached_s = time.perf_counter()
            self.reached.set()
        await self._never.wait()
        return 0


@tool
async def trivial(number: int) -> int:
    """A step whose own work takes no time."""
    return number


class Wait(Message[int]):
    """Takes so many steps, then waits; or ends."""

    steps: int = 1
    ends: bool = False
    sleeps: bool = False


class Ask(Message[int]):
    """Has another actor wait, and waits for its answer."""


class Waiter(Actor, kind="bench_waiter"):
    """Waits in a tool."""

    @command
    async def wait(self, msg: Wait) -> int:
        gate: Gate = self.port(GATE)
        gate.begin()
        for number in range(msg.steps):
            await trivial(number)
        if msg.sleeps:
            await self.sleep(DAY_S)
        elif not msg.ends:
            await step("hold", self.key, gate.hold, int)
        return msg.steps


class Asker(Actor, kind="bench_asker"):
    """Waits for another actor."""

    @command
    async def ask(self, msg: Ask) -> int:
        return await self.ref(Waiter, self.key).ask(Wait(), timeout_s=3600.0)


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What runs take."""

    mode: str
    runs: int
    rss_bytes: int
    """Of the process, for each run."""
    traced_bytes: int
    """Of Python's objects, for each run; 0 where it was not traced."""
    by_file: dict[str, int]
    """Those bytes by the file that made them, the largest first."""


def system(gate: Gate, leave_after_s: float = DAY_S) -> System:
    """As many runs as there are, all loaded until they have been idle, or have only slept, for that long."""
    policy = Policy(suspend_after_s=leave_after_s)
    kinds = [
        Kind(actor=each, policy=policy, active_max=10**6, idle_max=10**6, idle_after_s=leave_after_s)
        for each in (Waiter, Asker)
    ]
    return System(APP, kinds, ports={GATE: gate})


@asynccontextmanager
async def measured(bus: Bus, mode: str, runs: int, *, traced: bool) -> AsyncGenerator[Memory]:
    """The memory of so many runs in this process; they wait until the end of the block."""
    gate = Gate()
    leaving = mode in LEAVING
    async with system(gate, IDLE_S if leaving else DAY_S).host(bus) as node:
        # Memory that was once given back stays with the process: dropped runs are compared with as many before them.
        warm = runs if leaving else min(WARM, runs)
        await begin(node, gate, mode, [f"warm-{number}" for number in range(warm)])
        if traced:
            tracemalloc.start(1)
        rss, before = _look()
        await begin(node, gate, mode, [str(number) for number in range(runs)])
        rss_after, after = _look()
        grown = _grown(before, after)
        yield Memory(
            mode=mode,
            runs=runs,
            rss_bytes=round((rss_after - rss) / runs),
            traced_bytes=round(sum(grown.values()) / runs),
            by_file={name: round(size / runs) for name, size in grown.most_common(FILES) if size >= runs},
        )


async def begin(node: Node, gate: Gate, mode: str, keys: Sequence[str]) -> None:
    """Returns when all of them wait, or are gone."""
    wait = Wait(ends=mode == "unloaded", sleeps=mode == "suspended")
    kind, message = (Asker, Ask()) if mode == "ask" else (Waiter, wait)
    gate.expect(len(keys))
    counted = LEAVING.get(mode, "")
    gone = node.host.statistics[counted] + len(keys)
    free = asyncio.Semaphore(AT_ONCE)

    async def tell(key: str) -> None:
        async with free:
            await node.ref(kind, key).tell(message)

    async with asyncio.timeout(TIMEOUT_S):
        async with asyncio.TaskGroup() as tasks:
            for key in keys:
                tasks.create_task(tell(key))
        if not counted:
            await gate.reached.wait()
        while counted and node.host.statistics[counted] < gone:  # noqa: ASYNC110 # it is only counted
            await asyncio.sleep(POLL_S)


def _look() -> tuple[int, tracemalloc.Snapshot | None]:
    gc.collect()
    snapshot = tracemalloc.take_snapshot() if tracemalloc.is_tracing() else None
    return resident_bytes(), snapshot


def _grown(before: tracemalloc.Snapshot | None, after: tracemalloc.Snapshot | None) -> Counter[str]:
    """Bytes more than before, by file."""
    grown = Counter[str]()
    if before is not None and after is not None:
        for difference in after.compare_to(before, "filename"):
            grown[_short(difference.traceback[0].filename)] += difference.size_diff
    return grown


def _short(name: str) -> str:
    """The file's place in its package, or in the standard library."""
    for mark in ("/regrow/", "/site-packages/", "/lib/"):
        if mark in name:
            return name.rpartition(mark)[2]
    return name


async def main(url: str, mode: str, runs: str, traced: str) -> None:
    client = await connect(ServerAddress(url=url), name="waiting")
    async with (
        open_bus(client, APP, create=True) as bus,
        measured(bus, mode, int(runs), traced=traced == "yes") as found,
    ):
        print(msgspec.json.encode(found).decode(), flush=True)  # noqa: T201 # whoever started it reads this
        os._exit(0)  # nothing that is left is worth waiting for


if __name__ == "__main__":
    log_to_stderr()
    asyncio.run(main(*sys.argv[1:5]))
