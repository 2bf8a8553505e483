"""Deaths of real processes: a nats-server, a worker that gets SIGKILL at a given moment, and another one that goes on."""

import asyncio
import os
import secrets
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from regrow.actors import System
from regrow.actors.audit import audit
from regrow.bus import Bus, EmbeddedServer, RequestTimeout, open_bus
from regrow.bus.connection import ServerAddress, close, connect
from regrow.bus.subjects import BOXES
from regrow.testing.application import load
from regrow.testing.ending import Ending, View, as_json, dead_letters_of, states_of
from regrow.testing.outside import Outside
from regrow.testing.play import Scenario
from regrow.testing.points import NO_POINT, Point

RESEND_S = 2.0
"""After this time without a reply the client asks again: the process that was to reply may be gone."""
LOOK_S = 0.02
WORDS_MAX = 2_000


class Killing(msgspec.Struct, frozen=True, kw_only=True):
    """What is run, and how long everybody has patience, in real time."""

    path: str
    scenario: Scenario
    view: View
    patience_s: float
    settle_s: float


class KilledRun(msgspec.Struct, frozen=True):
    """How a run ended, and which points its first process came to."""

    ending: Ending
    passed: list[Point]
    reached: bool


class NotOver(Exception):
    """The run came to no end; its text says why."""


@asynccontextmanager
async def server() -> AsyncGenerator[tuple[str, Path]]:
    """A nats-server and a folder, for as long as the block runs."""
    with TemporaryDirectory(prefix="regrow-crash-") as folder:
        async with EmbeddedServer(Path(folder) / "store", durability="process") as started:
            try:
                yield started.url, Path(folder)
            finally:
                os.kill(started.pid, signal.SIGKILL)  # with all these streams it would take its time to go


async def killed_run(what: Killing, url: str, folder: Path, doom: Point | None) -> KilledRun:
    """One run under a name of its own, with at most one death. Raises ``NotOver``."""
    made = load(what.path)
    name = f"{made.name}_{secrets.token_hex(4)}"
    files = folder / f"{name}.witness", folder / f"{name}.passed", folder / f"{name}.log"
    client = await connect(ServerAddress(url=url), name=f"regrow-outside-{name}")
    try:
        async with open_bus(client, name, create=True) as bus:
            outside = Outside(bus, resend_s=RESEND_S)
            acting = asyncio.create_task(_act(what.scenario, outside))
            try:
                async with asyncio.timeout(what.patience_s + what.settle_s):
                    reached = await _lives(what, url, name, files, doom, bus, acting)
                return await _ended(what, made, bus, outside, acting.result(), files, reached)
            except TimeoutError:
                patience_s = what.patience_s + what.settle_s
                raise NotOver(f"not over after {patience_s:g} s; {_last_words(files[2])}") from None
            finally:
                acting.cancel()
                await asyncio.wait((acting,))
    finally:
        await close(client)


async def _lives(
    what: Killing,
    url: str,
    name: str,
    files: tuple[Path, Path, Path],
    doom: Point | None,
    bus: Bus,
    acting: "asyncio.Task[object]",
) -> bool:
    """Keeps a worker running until nothing is left to do; whether one was killed."""
    reached = False
    while True:
        word = NO_POINT if doom is None or reached else str(doom)
        async with _worker(what.path, url, name, files, word) as process:
            died = asyncio.create_task(process.wait())
            ended = asyncio.create_task(_settled(what, bus, acting))
            await asyncio.wait((died, ended), return_when=asyncio.FIRST_COMPLETED)
            if not died.done():
                died.cancel()
                ended.result()
                return reached
            ended.cancel()
            await asyncio.wait((ended,))
        if reached or process.returncode != -signal.SIGKILL:
            raise NotOver(f"the worker ended with {process.returncode}; {_last_words(files[2])}")
        reached = True


async def _ended(
    what: Killing,
    made: System,
    bus: Bus,
    outside: Outside,
    result: object,
    files: tuple[Path, Path, Path],
    reached: bool,
) -> KilledRun:
    seen = await audit(bus, files[0])
    again = [f"{seen.steps_executed_again} steps ran again although the log had their outcome"]
    ending = Ending(
        result=result,
        states=await states_of(bus, made, what.view),
        replies=dict(outside.replies),
        dead_letters=await dead_letters_of(bus),
        ran={},
        in_flight={},
        again=again if seen.steps_executed_again else [],
    )
    passed = [msgspec.json.decode(line, type=Point) for line in files[1].read_bytes().splitlines()]
    return KilledRun(ending, passed, reached)


@asynccontextmanager
async def _worker(path: str, url: str, name: str, files: tuple[Path, Path, Path], doom: str) -> AsyncGenerator[Process]:
    witness, passed, words = files
    arguments = (sys.executable, "-m", "regrow.testing.worker", path, url, name, str(witness), str(passed), doom)
    with words.open("ab") as output:
        process = await asyncio.create_subprocess_exec(*arguments, stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _act(scenario: Scenario, outside: Outside) -> object:
    try:
        return as_json(await scenario(outside))
    except Exception as error:  # the edge to the user's scenario: what it raises is compared
        return {"raised": [type(error).__name__, str(error)]}


class _Streamed(msgspec.Struct):
    messages: int


class _Info(msgspec.Struct):
    state: _Streamed


async def _settled(what: Killing, bus: Bus, acting: "asyncio.Task[object]") -> None:
    """Returns once the scenario is over and no mail waits, timers included, or those of the far future only."""
    await asyncio.wait((acting,))
    until_s = time.monotonic() + what.settle_s
    while time.monotonic() < until_s:
        streams = [f"$JS.API.STREAM.INFO.{bus.subjects.mail_stream(box)}" for box in BOXES]
        try:
            answers = [await bus.request(each, b"", timeout_s=10.0) for each in streams]
        except RequestTimeout:
            continue  # a server that is busy with what it is to be asked about
        if not any(msgspec.json.decode(each.body, type=_Info).state.messages for each in answers):
            return
        await asyncio.sleep(LOOK_S)


def _last_words(words: Path) -> str:
    text = words.read_text(errors="replace").strip() if words.exists() else ""
    return f"its last words: {text[-WORDS_MAX:]}" if text else "it said nothing"
