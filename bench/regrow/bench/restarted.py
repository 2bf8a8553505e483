"""A worker process that is killed and started again while the server stays up, and what it noted of itself.

What counts comes from outside the runtime: a file to which every body of a tool appends a line as it begins, compared with what
the logs held at the kill. All times are of the machine's monotonic clock, which all its processes share.
"""

import asyncio
import os
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from regrow.bench import floor_app, runs_app
from regrow.bench.runs_app import DIE_AT, WITNESS, Runner, app
from regrow.bus import Address, Bus, NatsBus
from regrow.bus.subjects import log_number

APP = app.name
MARKS = ("began", "imported", "connected", "opened", "served", "handler")
"""What a worker notes of its start, in this order; the first new step follows."""

Step = tuple[str, int]
"""The key of a run, and which of its steps, from 1."""


class Noted(NamedTuple):
    """One line of the witness file."""

    pid: int
    at_ns: int
    what: str
    step: Step | None


class Worker(NamedTuple):
    """A worker process that has been started."""

    process: Process
    started_ns: int
    """Just before it was."""


class Again(msgspec.Struct, frozen=True):
    """What a second process ran that a first one had begun."""

    recorded: int
    """Steps that were in the logs when the first process died."""
    recorded_again: int
    """Those of them whose body ran once more; has to be 0."""
    open_again: int
    """Steps that had begun and were not recorded, whose body ran once more."""


def runner(key: str) -> Address:
    """The actor of one run."""
    return Address(Runner.__regrow__.kind, key)


def noted(witness: Path) -> list[Noted]:
    """The lines of a witness file so far, without one that is still being written."""
    if not witness.exists():
        return []
    whole = witness.read_text().rpartition("\n")[0]
    return [_line(line) for line in whole.splitlines()]


def _line(line: str) -> Noted:
    pid, at_ns, what, *of = line.split(" ")
    return Noted(int(pid), int(at_ns), what, (of[0], int(of[1])) if of else None)


def again(lines: Sequence[Noted], recorded: frozenset[Step], second: int) -> Again:
    """What the process of that id ran again, given what the logs held before it began.

    Raises AssertionError where a run went on although the step before is not in its log: then the logs were not understood.
    """
    before = {line.step for line in lines if line.step is not None and line.pid != second}
    passed = {(run, number - 1) for run, number in before if number > 1}
    assert passed <= recorded, f"steps that runs went on from are in no log: {sorted(passed - recorded)[:5]}"
    after = Counter(line.step for line in lines if line.step is not None and line.pid == second)
    return Again(
        recorded=len(recorded),
        recorded_again=sum(count for step, count in after.items() if step in recorded),
        open_again=sum(count for step, count in after.items() if step in before - recorded),
    )


def parts_ms(lines: Sequence[Noted], worker: Worker) -> dict[str, float]:
    """How long each part of a worker's start took, from the start of its process to its first step, in milliseconds."""
    mine = [line for line in lines if line.pid == worker.process.pid]
    marks = {line.what: line.at_ns for line in reversed(mine) if line.step is None}
    marks["step"] = first_step_ns(lines, worker)
    found: dict[str, float] = {}
    last = worker.started_ns
    for name in (*MARKS, "step"):
        found[name] = (marks[name] - last) / 1e6
        last = marks[name]
    return found


def first_step_ns(lines: Sequence[Noted], worker: Worker) -> int:
    """When the body of the first step of this process began."""
    return min(line.at_ns for line in lines if line.pid == worker.process.pid and line.step is not None)


def medians(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each part the median over the repeats, to a tenth."""
    return {name: round(statistics.median(each[name] for each in parts), 1) for name in parts[0]}


async def recorded(bus: Bus, keys: Sequence[str]) -> frozenset[Step]:
    """The steps that the logs of these runs hold, whatever records they are in."""
    found: set[Step] = set()
    for key in keys:
        for stored in await bus.log.read(runner(key)):
            found |= {(key, number) for number in _steps_in(msgspec.json.decode(stored.data))}
    return frozenset(found)


def _steps_in(value: Any) -> Iterator[int]:
    match value:
        case {"tool": "act", "outcome": {"value": int(number)}, **rest} if not rest.get("cancelled"):
            yield number
        case dict():
            for each in cast(dict[str, Any], value).values():
                yield from _steps_in(each)
        case [*items]:
            for each in items:
                yield from _steps_in(each)
        case _:
            return


@asynccontextmanager
async def working(
    url: str, witness: Path, *, loop: str = "asyncio", die_at: int = 0, by_cli: bool = False
) -> AsyncGenerator[Worker]:
    """A worker process while the block runs; killed at its end. ``by_cli``: as ``regrow run`` starts it, which notes less."""
    path = Path(runs_app.__file__)
    own = [sys.executable, "-P", str(path), url, str(witness), loop]
    run = [sys.executable, "-m", "regrow.cli", "run", f"{path.stem}:app", "--nats", url, "--loop", loop]
    given = {WITNESS: str(witness), **({DIE_AT: str(die_at)} if die_at else {})}
    with witness.with_suffix(".log").open("ab") as said:
        started_ns = time.monotonic_ns()
        process = await asyncio.create_subprocess_exec(
            *(run if by_cli else own),
            stdin=PIPE,
            stdout=said,
            stderr=said,
            env={**_environment(witness), **given},
            cwd=path.parent,
        )
    try:
        yield Worker(process, started_ns)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def floor_s(bus: NatsBus, url: str, key: str, witness: Path) -> float:
    """Seconds from the start of a process until it has read the log of that run raw, and nothing else."""
    address = runner(key)
    subjects = bus.subjects
    command = [sys.executable, "-P", floor_app.__file__, url, subjects.log_stream(log_number(address))]
    begun_ns = time.monotonic_ns()
    process = await asyncio.create_subprocess_exec(
        *command, subjects.log(address), stdout=PIPE, env=_environment(witness)
    )
    said, _ = await process.communicate()
    at_ns, records = said.split()
    assert int(records) > 0
    return (int(at_ns) - begun_ns) / 1e9


def _environment(witness: Path) -> dict[str, str]:
    """Ours, with compiled modules kept: whoever has installed a package has them too, and here they go to a place of their own."""
    left_out = (WITNESS, DIE_AT, "PYTHONDONTWRITEBYTECODE")
    ours = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**ours, "PYTHONPYCACHEPREFIX": str(witness.parent / "pycache")}
