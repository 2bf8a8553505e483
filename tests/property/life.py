"""One life of an application in a process of its own, on a real server; it may kill itself at a journal write.

What it executes and sees is in a witness file, one line for each, written before anything else happens.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from tests.property.growing import grown
from tests.property.hunt import unlogged
from tests.property.trial import system
from tests.property.world import Point, Universe, UniverseRun

from regrow.bus import Address, open_bus
from regrow.bus.connection import ServerAddress, connect

KINDS = ("performer", "peer")


class Executed(msgspec.Struct, frozen=True, tag=True):
    life: int


class Observed(msgspec.Struct, frozen=True, tag=True):
    life: int
    attempt: int
    task: str
    what: str


class Wrong(msgspec.Struct, frozen=True, tag=True):
    what: str


Line = Executed | Observed | Wrong


class Order(NamedTuple):
    """What a life is to do."""

    url: str
    app: str
    key: str
    """Of the universe: ``<seed>-<trial>``."""
    life: int
    point: Point
    witness: Path


class Witnessed(Universe):
    """A universe in the process that is its present life: all is lost with it but the witness file."""

    def __init__(self, key: str, life: int, point: Point, witness: Path | None) -> None:
        super().__init__(key, grown(int(key.partition("-")[0]), real_clock=True), point)
        self.life = life
        self._witness = witness
        self._numbers = count(life * 100_000)

    def token(self) -> str:
        return f"u{next(self._numbers)}"

    def execute(self, kind: str, key: str, *, known: bool) -> None:
        self._write(Executed(self.life))
        super().execute(kind, key, known=known)

    def observe(self, life: int, attempt: int, task: str, what: str) -> None:
        self._write(Observed(life, attempt, task, what))

    def check(self, condition: bool, what: str) -> None:
        if not condition:
            self._write(Wrong(f"life {self.life}: {what}"))

    def _write(self, line: Line) -> None:
        if self._witness is None:
            return
        file = os.open(self._witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, msgspec.json.encode(line) + b"\n")
        os.close(file)


class Universes:
    """The scene of a process: the universe of its order, and others whose leftovers it may meet."""

    def __init__(self, own: Witnessed) -> None:
        self._known = {own.key: own}

    def begin(self, kind: str, key: str) -> UniverseRun:
        if key not in self._known:
            self._known[key] = Witnessed(key, 9, Point(), None)
        return UniverseRun(self._known[key], kind)


def live(order: Order) -> None:
    """A process's whole life; it ends by a kill only."""
    with unlogged():
        asyncio.run(_live(order))


async def _live(order: Order) -> None:
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: None
    )  # tasks that a program left may fail unseen
    universe = Witnessed(order.key, order.life, order.point, order.witness)
    client = await connect(ServerAddress(url=order.url), name=f"life-{os.getpid()}")
    async with open_bus(client, order.app) as bus:
        for kind in KINDS:
            for stored in await bus.log.read(Address(kind, order.key)):
                universe.add(kind, stored.data)
        _watch(bus.log, universe)
        async with system(order.app, Universes(universe)).host(bus) as node:
            await node.wait_stopped()


def _watch(log: Any, universe: Witnessed) -> None:
    """Counts the universe's journal writes, tells the witness what is stored, and kills the process at its point."""
    append: Callable[..., Awaitable[int]] = log.append
    attempt: Callable[..., None] = log.attempt

    async def watched_append(address: Address, data: bytes, **more: Any) -> int:
        if address.key != universe.key:
            return await append(address, data, **more)
        last = _begin(universe)
        sequence = await append(address, data, **more)
        _end(universe, address.kind, data, last=last)
        return sequence

    def watched_attempt(address: Address, data: bytes, *, done: Callable[[int | None], None], **more: Any) -> None:
        if address.key != universe.key:
            attempt(address, data, done=done, **more)
            return
        last = _begin(universe)

        def stored(sequence: int | None) -> None:
            if sequence is not None:
                _end(universe, address.kind, data, last=last)
            done(sequence)

        attempt(address, data, done=stored, **more)

    log.append, log.attempt = watched_append, watched_attempt


def _begin(universe: Witnessed) -> bool:
    last = universe.begin_write()
    _kill_if(universe)
    return last


def _end(universe: Witnessed, kind: str, data: bytes, *, last: bool) -> None:
    universe.end_write(kind, data, last=last)
    _kill_if(universe)


def _kill_if(universe: Witnessed) -> None:
    if universe.dead:
        os.kill(os.getpid(), signal.SIGKILL)


def read_witness(universe: Universe, witness: Path) -> None:
    """Tells a universe what its lives have written down."""
    for line in witness.read_bytes().splitlines() if witness.exists() else ():
        told: Line = msgspec.json.decode(line, type=Line)
        match told:
            case Executed():
                universe.executed += 1
            case Observed(life, attempt, task, what):
                universe.observe(life, attempt, task, what)
            case Wrong(what):
                universe.wrong.append(what)
