"""The worker that ``in_flight`` and ``resume`` kill. ``python -P runs_app.py URL WITNESS [LOOP]``.

It appends to the witness file when which part of its start was over, and each run of a tool's body. With ``DIE_AT`` in its
environment it kills itself in the body of that step. It serves until it is killed or its standard input ends.
"""
# ruff: noqa: E402 # the clock starts before the imports

import time

BEGAN_NS = time.monotonic_ns()

import asyncio
import contextlib
import importlib
import os
import signal
import sys
from functools import cache, partial

from regrow.actors import Actor, Message, System, command, tool
from regrow.actors.logs import log_to_stderr
from regrow.bus import open_bus
from regrow.bus.connection import ServerAddress, connect

IMPORTED_NS = time.monotonic_ns()

WITNESS = "REGROW_BENCH_WITNESS"
"""The environment variable that names the file in which everything is noted."""
DIE_AT = "REGROW_BENCH_DIE_AT"
"""The environment variable that names the step in which this process kills itself."""


class Run(Message[int]):
    """So many steps, each of which takes that long; answered with how many there were."""

    steps: int
    pause_ms: int


@cache
def witness() -> int:
    """The open witness file."""
    return os.open(os.environ[WITNESS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(what: str, at_ns: int | None = None) -> None:
    """One line: which process, when, what."""
    at_ns = time.monotonic_ns() if at_ns is None else at_ns
    os.write(witness(), f"{os.getpid()} {at_ns} {what}\n".encode())


@cache
def note_once(what: str) -> None:
    """The same, the first time only."""
    note(what)


@tool
async def act(run: str, number: int, pause_ms: int) -> int:
    """A step, witnessed where it begins."""
    note(f"step {run} {number}")
    if os.environ.get(DIE_AT) == str(number):
        os.kill(os.getpid(), signal.SIGKILL)
    if pause_ms:
        await asyncio.sleep(pause_ms / 1000)
    return number


class Runner(Actor, kind="bench_runner"):
    """One run, of steps one after the other."""

    @command
    async def run(self, msg: Run) -> int:
        note_once("handler")
        done = 0
        for number in range(1, msg.steps + 1):
            done += await act(self.key, number, msg.pause_ms) == number
        return done


app = System("runs", [Runner])
"""Also for ``regrow run``."""


async def main(url: str) -> None:
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), partial(os._exit, 1))
    client = await connect(ServerAddress(url=url), name=f"runs-{os.getpid()}")
    note("connected")
    async with open_bus(client, app.name) as bus:
        note("opened")
        async with app.host(bus) as node:
            note("served")
            await node.wait_stopped()


if __name__ == "__main__":
    os.environ[WITNESS] = sys.argv[2]
    log_to_stderr()
    note("began", BEGAN_NS)
    note("imported", IMPORTED_NS)
    factory = importlib.import_module("uvloop").new_event_loop if sys.argv[3:] == ["uvloop"] else None
    with asyncio.Runner(loop_factory=factory) as runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(main(sys.argv[1]))
