"""Kills the worker and the nats-server with SIGKILL at random moments, under load from outside, and checks the whole history.

A program that knows nothing of regrow (``chaos_client.py``) sends tells and asks to counters and registers, which send to and
ask each other. Meanwhile the worker, the server, or both at once are killed and started again at once, on the same store and
port; with ``--stops`` a worker is also stopped (SIGSTOP), overtaken by a second one, and goes on (SIGCONT). Then the load ends, the
mailboxes run empty, and ``regrow.bench.history`` compares what the clients were told with what every actor holds, by its own
answer and by its log: nothing acknowledged may be lost, nothing applied twice, no order broken, no answer wrong.

    python bench/chaos.py --kills 100 --minutes 10 --seed 1
    python bench/chaos.py --kills 10 --minutes 1 --stops 3 --durability disk --json

Prints a report, or with ``--json`` one JSON document; exits 1 when there is a finding, and then keeps the folder with all records.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from regrow.bench import chaos_app
from regrow.bench.history import Final, Finding, History, check
from regrow.bench.verbs import Operation
from regrow.bus import BusError, EmbeddedServer, open_bus
from regrow.bus.connection import ServerAddress, close, connect

APP = "chaos"
CLIENT = Path(__file__).with_name("chaos_client.py")
WARM_UP_S = 2.0
DRAIN_S = 120.0
RESPAWN_S = 0.05
BOTH = 0.1
"""The share of kills that hit the worker and the server at once."""
STOP_S = (0.5, 6.0)
"""How long a worker is stopped while another one has its actors."""
SHADOW_S = (0.5, 3.0)
"""How long it goes on beside the other one before it is done away with."""
STALE_S = 10.0
"""With ``--stops``, how old the state may be that a query shows."""
FINDINGS_SHOWN = 10


class Blow(msgspec.Struct, frozen=True):
    """One thing that was done to the processes, and when (seconds of the monotonic clock)."""

    what: str
    at_s: float


class Server:
    """A nats-server that is started again, on the same store and port, whenever it dies."""

    def __init__(self, store: Path, durability: Any) -> None:
        self._server = EmbeddedServer(store, durability=durability)
        self._server.pid = 0
        self.starts = 0

    @property
    def url(self) -> str:
        return self._server.url

    async def start(self) -> None:
        """Returns when it answers, and makes the application's streams."""
        await self._server.__aenter__()
        client = await connect(ServerAddress(url=self.url), name="chaos")
        async with open_bus(client, APP, create=True):
            self._server.settle()
        await close(client)

    async def keep(self) -> None:
        """Starts it again until cancelled."""
        while True:
            await self._server.wait_exited()
            self._server.pid = 0
            await self._server.__aexit__(None, None, None)
            await self._restart()

    async def _restart(self) -> None:
        while True:
            try:
                await self._server.__aenter__()
            except BusError as error:  # killed while it started
                self._server.pid = 0
                say(f"server not started: {str(error).splitlines()[0]}")
            else:
                self.starts += 1
                return

    async def stop(self) -> None:
        self._server.pid = 0
        await self._server.__aexit__(None, None, None)

    async def kill(self) -> None:
        """Kills it, as soon as there is one: perhaps in the middle of its start."""
        while not self._server.pid:  # noqa: ASYNC110 # it is set in the middle of the start, and nobody tells
            await asyncio.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._server.pid, signal.SIGKILL)


class Worker:
    """A process that hosts the application, started again whenever it dies."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._log = folder / "worker.log"
        self._current: Process | None = None
        self._all: list[Process] = []
        self._replaced = asyncio.Event()
        self.exits: Counter[int] = Counter()
        """How its processes ended, by exit code (negative: the signal)."""

    async def keep(self) -> None:
        """Starts it again until cancelled."""
        while True:
            self._current = process = await self._spawn()
            ended = asyncio.ensure_future(process.wait())
            replaced = asyncio.ensure_future(self._replaced.wait())
            await asyncio.wait((ended, replaced), return_when=asyncio.FIRST_COMPLETED)
            replaced.cancel()
            if self._replaced.is_set():
                self._replaced.clear()
                continue
            self.exits[ended.result()] += 1
            self._current = None
            await asyncio.sleep(RESPAWN_S)

    async def kill(self) -> None:
        """Kills it, as soon as there is one: perhaps in the middle of its start."""
        self._signal(await self._wait_current(), signal.SIGKILL)

    async def stop_and_replace(self, stopped_s: float, shadow_s: float) -> None:
        """Stops it, has another one take over, lets it go on beside that one for a while, and kills it."""
        stopped = await self._wait_current()
        self._signal(stopped, signal.SIGSTOP)
        self._current = None
        self._replaced.set()
        await asyncio.sleep(stopped_s)
        self._signal(stopped, signal.SIGCONT)
        await asyncio.sleep(shadow_s)
        self._signal(stopped, signal.SIGKILL)
        await stopped.wait()

    async def end(self) -> None:
        """Kills all that are left."""
        for process in self._all:
            self._signal(process, signal.SIGKILL)
            await process.wait()

    async def _wait_current(self) -> Process:
        while (current := self._current) is None or current.returncode is not None:  # noqa: ASYNC110 # as above
            await asyncio.sleep(0.01)
        return current

    async def _spawn(self) -> Process:
        command = [sys.executable, "-P", str(chaos_app.__file__), self._url, APP]
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=DEVNULL, stderr=log)
        self._all = [each for each in self._all if each.returncode is None] + [process]
        return process

    def _signal(self, process: Process, what: signal.Signals) -> None:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(what)


def plan(draw: random.Random, chosen: argparse.Namespace) -> list[Blow]:
    """When what is done, counted from the beginning: at random over the whole time, half of the kills to each of the two."""
    both = round(chosen.kills * BOTH / 2)
    worker = (chosen.kills - 2 * both) // 2
    names = ["both"] * both + ["worker"] * worker + ["server"] * (chosen.kills - 2 * both - worker)
    names += ["stop"] * chosen.stops
    times = [draw.uniform(WARM_UP_S, chosen.minutes * 60.0) for _ in names]
    return sorted((Blow(name, at_s) for name, at_s in zip(names, times, strict=True)), key=lambda blow: blow.at_s)


async def strike(blows: Sequence[Blow], draw: random.Random, server: Server, worker: Worker) -> list[Blow]:
    """Carries the plan out; what was done when."""
    began_s, done = time.monotonic(), list[Blow]()
    async with asyncio.TaskGroup() as stops:
        for blow in blows:
            await asyncio.sleep(max(0.0, began_s + blow.at_s - time.monotonic()))
            done.append(Blow(blow.what, time.monotonic()))
            if blow.what == "stop":
                stops.create_task(worker.stop_and_replace(draw.uniform(*STOP_S), draw.uniform(*SHADOW_S)))
            if blow.what in ("server", "both"):
                await server.kill()
            if blow.what in ("worker", "both"):
                await worker.kill()
            say(f"{time.monotonic() - began_s:6.1f} s: {blow.what} ({len(done)} of {len(blows)})")
    return done


async def outside(task: str, url: str, file: Path, chosen: argparse.Namespace) -> None:
    """Runs the outside program; SystemExit when it fails."""
    command = [sys.executable, str(CLIENT), task, url, APP, str(file), "--wait", str(DRAIN_S)]
    for name in ("actors", "clients", "rate", "seed"):
        command += [f"--{name}", str(getattr(chosen, name))]
    command += ["--seconds", str(chosen.minutes * 60.0)]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        if await process.wait():
            raise SystemExit(f"the outside program ended with {process.returncode}: {task}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def keeping(server: Server, worker: Worker) -> AsyncGenerator[None]:
    """Keeps both alive while the block runs."""
    keepers = [asyncio.create_task(server.keep()), asyncio.create_task(worker.keep())]
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.wait(keepers)
        await worker.end()
        await server.stop()


async def run(folder: Path, chosen: argparse.Namespace) -> tuple[History, list[Blow], dict[str, Any]]:
    """The whole run: what is known of it, what was done, and how the processes fared."""
    draw = random.Random(chosen.seed)
    server = Server(folder / "store", chosen.durability)
    await server.start()
    worker = Worker(server.url, folder)
    async with keeping(server, worker):
        loading = asyncio.create_task(outside("load", server.url, folder / "operations.jsonl", chosen))
        blows = await strike(plan(draw, chosen), draw, server, worker)
        await loading
        say("load ended; waiting for the mailboxes to run empty")
        ended_s = time.monotonic()
        await outside("read", server.url, folder / "finals.json", chosen)
    processes = {
        "server_starts": server.starts,
        "worker_exits": {str(code): count for code, count in worker.exits.items()},
        "drain_seconds": round(time.monotonic() - ended_s, 1),
    }
    return read_history(folder, stale_s=STALE_S if chosen.stops else 0.0), blows, processes


def read_history(folder: Path, *, stale_s: float) -> History:
    """What the outside program wrote down."""

    class Finals(msgspec.Struct):
        finals: tuple[Final, ...]
        dead_letters: tuple[str, ...]
        mail_left: int

    lines = (folder / "operations.jsonl").read_bytes().splitlines()
    found = msgspec.json.decode((folder / "finals.json").read_bytes(), type=Finals)
    return History(
        operations=tuple(msgspec.json.decode(line, type=Operation) for line in lines),
        finals=found.finals,
        dead_letters=found.dead_letters,
        mail_left=found.mail_left,
        stale_s=stale_s,
    )


def recoveries(blows: Sequence[Blow], operations: Sequence[Operation]) -> Iterator[tuple[str, float]]:
    """For each blow the seconds until the first answer to an ask that began after it; those that nothing came after are left out."""
    asks = [
        (each.invoked_s, each.ended_s) for each in operations if each.reply is not None and each.ended_s is not None
    ]
    for blow in blows:
        after = [ended_s for invoked_s, ended_s in asks if invoked_s > blow.at_s]
        if after:
            yield blow.what, min(after) - blow.at_s


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum."""
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 3),
        "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 3),
        "max": round(ordered[-1], 3),
    }


def document(
    chosen: argparse.Namespace, history: History, blows: Sequence[Blow], findings: Sequence[Finding]
) -> dict[str, Any]:
    """What the run came to, for machines."""
    operations, done = history.operations, Counter(blow.what for blow in blows)
    took: dict[str, list[float]] = {}
    for what, seconds in recoveries(blows, operations):
        took.setdefault(what, []).append(seconds)
    return {
        "v": 1,
        "seed": chosen.seed,
        "minutes": chosen.minutes,
        "durability": chosen.durability,
        "actors": chosen.actors,
        "clients": chosen.clients,
        "rate": chosen.rate,
        "operations": len(operations),
        "outcomes": dict(Counter(each.outcome for each in operations)),
        "verbs": dict(Counter(each.verb for each in operations)),
        "sent_again": sum(each.tries > 1 for each in operations),
        "applied": sum(len(final.applied) for final in history.finals),
        "kills": {"worker": done["worker"] + done["both"], "server": done["server"] + done["both"]},
        "kills_of_both_at_once": done["both"],
        "stops": done["stop"],
        "recovery_seconds": {what: spread(values) for what, values in took.items()},
        "findings": len(findings),
        "findings_by_kind": dict(Counter(finding.kind for finding in findings)),
    }


def report(result: dict[str, Any], findings: Sequence[Finding]) -> str:
    """The same for people."""
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in result.items() if name != "v"]
    lines += [f"{each.kind} {each.actor} {each.op}: {each.message}" for each in findings[:FINDINGS_SHOWN]]
    if len(findings) > FINDINGS_SHOWN:
        lines.append(f"and {len(findings) - FINDINGS_SHOWN} more")
    return "\n".join(lines)


def main() -> int:
    """Runs, checks and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--stops", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--actors", type=int, default=300)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--rate", type=float, default=200.0, help="operations per second, all clients together")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--durability", choices=["disk", "process"], default="process")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all records")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="regrow-chaos-"))
    say(f"seed {chosen.seed}, records in {folder}")
    history, blows, processes = asyncio.run(run(folder, chosen))
    findings = check(history)
    result = {**document(chosen, history, blows, findings), **processes}
    (folder / "findings.json").write_bytes(msgspec.json.encode(findings))
    print(json.dumps(result) if chosen.json else report(result, findings))  # noqa: T201 # a script prints
    if findings and chosen.json:
        say(report({}, findings))
    if not findings and not chosen.keep:
        shutil.rmtree(folder)
    return 1 if findings else 0


def say(text: str) -> None:
    """A line for the person who watches."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 # a script prints


if __name__ == "__main__":
    sys.exit(main())
