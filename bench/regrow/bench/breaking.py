"""Many runs wait in the middle of their handlers while the code is edited: what a check names, and what waits once it is started.

The application runs in a process of its own, from a source file of its own, and is killed when all of its runs wait. Each edit
breaks a known part of them. ``regrow check`` looks at every edited source, then ``regrow run`` starts the one with all edits.
"""

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from inspect import getsource
from pathlib import Path

import msgspec

from regrow.actors import AskFailed
from regrow.actors.client import Client
from regrow.bench import breaking_app
from regrow.bench.breaking_app import EDITS, GATE, WAIT_S, WAYS, WITNESS, CheckIn, Go, Trip, app, edited
from regrow.bus import EmbeddedServer, open_bus
from regrow.bus.connection import ServerAddress, close, connect
from regrow.bus.server import Durability

POLL_S = 0.05
TIMEOUT_S = 300.0
MISFITS = 7


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What ``regrow check`` said of a source."""

    edits: str
    code: int
    """Its exit code."""
    named: int
    expected: int
    exact: bool
    """Whether it named those that the edits break and no other."""
    kinds: dict[str, int]
    actors: int
    """Checked."""
    took_s: float
    """The whole command, from the start of its process."""


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    v: int = 1
    runs: int
    durability: Durability
    checks: list[Checked]
    waiting: dict[str, int]
    """Runs that wait with trouble after the start, by its kind."""
    waiting_exact: bool
    """Whether they are those that the check had named."""
    finished: int
    """Runs that ended with their result."""
    finished_s: float
    """From the start of the process until the last of them had."""

    @property
    def good(self) -> bool:
        """Whether every check was exact and the start did what it had said."""
        fits = all(each.exact and each.code == (MISFITS if each.expected else 0) for each in self.checks)
        return fits and self.waiting_exact and self.finished == self.runs - sum(self.waiting.values())


class _Line(msgspec.Struct):
    actor: str
    fits: bool
    kind: str


async def break_runs(folder: Path, *, runs: int, durability: Durability = "process") -> Broken:
    """So many runs, the ways of ``WAYS`` by turns."""
    ways = {f"r{number}": WAYS[number % len(WAYS)] for number in range(runs)}
    source, witness = getsource(breaking_app), folder / "witness.txt"
    async with EmbeddedServer(folder / "store", durability=durability) as server:
        connection = await connect(ServerAddress(url=server.url), name="breaking")
        try:
            async with open_bus(connection, app.name, create=True) as bus, asyncio.TaskGroup() as tasks:
                client = Client(bus)
                place = _Place(folder, server.url, witness)
                async with place.running(source):
                    await asyncio.gather(*(_check_in(client, key) for key, way in ways.items() if way == "event"))
                    asks = {key: tasks.create_task(_go(client, key, way)) for key, way in ways.items()}
                    await _wait_lines(witness, runs)
                checks = [
                    await place.check(source, edits, ways) for edits in ((), *((each,) for each in EDITS), (*EDITS,))
                ]
                begun_s = time.monotonic()
                async with place.running(edited(source, (*EDITS,)), gate=True):
                    async with asyncio.timeout(TIMEOUT_S):
                        ended = {key: await ask for key, ask in asks.items()}
                    took_s = time.monotonic() - begun_s
        finally:
            await close(connection)
    waiting = {key: kind for key, kind in ended.items() if kind}
    return Broken(
        runs=runs,
        durability=durability,
        checks=checks,
        waiting=dict(Counter(waiting.values())),
        waiting_exact=waiting.keys() == _broken_by((*EDITS,), ways),
        finished=len(ended) - len(waiting),
        finished_s=round(took_s, 2),
    )


class _Place:
    """Where sources lie, and how they are run."""

    def __init__(self, folder: Path, url: str, witness: Path) -> None:
        self._folder = folder
        self._url = url
        self._witness = witness

    @asynccontextmanager
    async def running(self, source: str, *, gate: bool = False) -> AsyncGenerator[Process]:
        """The application, killed at the end of the block."""
        process = await self._start("run", source, {GATE: "open"} if gate else {}, stdout=DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            await process.wait()

    async def check(self, source: str, edits: tuple[str, ...], ways: dict[str, str]) -> Checked:
        """What a check of the edited source says."""
        begun_s = time.monotonic()
        process = await self._start("check", edited(source, edits), {}, "--json", stdout=PIPE)
        out, _ = await process.communicate()
        took_s = time.monotonic() - begun_s
        lines = [msgspec.json.decode(line, type=_Line) for line in out.splitlines()]
        named = {line.actor for line in lines if not line.fits}
        expected = {f"{Trip.__regrow__.kind}/{key}" for key in _broken_by(edits, ways)}
        return Checked(
            edits=", ".join(edits) or "none",
            code=process.returncode or 0,
            named=len(named),
            expected=len(expected),
            exact=named == expected,
            kinds=dict(Counter(line.kind for line in lines if not line.fits)),
            actors=len(lines),
            took_s=round(took_s, 2),
        )

    async def _start(self, verb: str, source: str, env: dict[str, str], *options: str, stdout: int) -> Process:
        (self._folder / "breaking.py").write_text(source)
        environment = {**os.environ, WITNESS: str(self._witness), "PYTHONDONTWRITEBYTECODE": "1", **env}
        with (self._folder / "log.txt").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "regrow.cli", verb, "breaking:app", "--nats", self._url, *options),
                cwd=self._folder,
                env=environment,
                stdout=stdout,
                stderr=log,
            )


def _broken_by(edits: Sequence[str], ways: dict[str, str]) -> set[str]:
    return {key for key, way in ways.items() if way in edits}


async def _check_in(client: Client, key: str) -> None:
    await client.ref(Trip, key).ask(CheckIn(at="12A"), timeout_s=TIMEOUT_S)


async def _go(client: Client, key: str, way: str) -> str:
    """The kind of trouble that the run waits with; empty when it has ended as it should."""
    try:
        ended = await client.ref(Trip, key).ask(Go(way=way), timeout_s=WAIT_S)
    except AskFailed as failed:
        return failed.kind
    assert ended == key
    return ""


async def _wait_lines(witness: Path, wanted: int) -> None:
    """Returns when so many runs wait."""
    async with asyncio.timeout(TIMEOUT_S):
        while _lines(witness) < wanted:  # noqa: ASYNC110 # nobody tells
            await asyncio.sleep(POLL_S)


def _lines(witness: Path) -> int:
    return witness.read_text().count("\n") if witness.exists() else 0
