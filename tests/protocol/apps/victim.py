"""An application that tests run as a process of its own: ``python victim.py URL APP WITNESS WHERE NUMBER``.

Some of its messages kill the process; and it kills itself at the NUMBER-th of what it does at WHERE: ``append``, ``relay``,
each just before it (``append<``) or after it (``append>``), or ``never``.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from regrow.actors import Actor, Event, Kind, Message, Policy, System, command, event, query, tool
from regrow.actors.logs import log_to_stderr
from regrow.bus import Bus, open_bus
from regrow.bus.connection import ServerAddress, connect
from regrow.supervisor import Backoff
from regrow.testing.appends import replace_append

URL, APP, WITNESS, WHERE, NUMBER = sys.argv[1:6]


class Poison(Message[int]):
    pass


class Add(Message[int]):
    amount: int


class Long(Message[int]):
    """Dies once between any two of its steps."""

    steps: int


class Book(Message[int]):
    """Asks a bank, runs a tool, sends and sets a timer."""

    number: int


class Charge(Message[int]):
    number: int


class Note(Message[None]):
    number: int


class Tick(Message[None]):
    number: int


class Totals(Message[dict[str, list[int]]]):
    pass


class Added(Event):
    kind: str
    number: int


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def witness(what: str) -> None:
    """One line, in one write to a file opened for appending."""
    file = os.open(WITNESS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{what}\n".encode())
    os.close(file)


def is_witnessed(what: str) -> bool:
    return what in Path(WITNESS).read_text().splitlines()


@tool
async def part(number: int) -> int:
    if not is_witnessed(f"part {number}"):
        witness(f"part {number}")
        die()
    return number


@tool
async def weigh(number: int) -> int:
    witness(f"weigh {number}")
    return number


class Victim(Actor):
    """Notes what it did, by what it was."""

    totals: dict[str, list[int]] = {}

    @command
    async def poison(self, msg: Poison) -> int:
        witness("poison")
        die()
        return 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(kind="add", number=msg.amount))
        return sum(self.totals["add"])

    @command
    async def long(self, msg: Long) -> int:
        return sum([await part(number) for number in range(msg.steps)])

    @command
    async def book(self, msg: Book) -> int:
        charged = await self.ref(Victim, f"bank-{self.key}").ask(Charge(number=msg.number))
        weighed = await weigh(msg.number)
        self.emit(Added(kind="book", number=msg.number))
        self.send(self.ref(Victim, f"note-{self.key}"), Note(number=msg.number))
        self.send(self.ref(Victim, f"note-{self.key}"), Note(number=msg.number + 100))
        self.set_timer("tick", Tick(number=msg.number), after_s=0.05)
        return charged + weighed

    @command
    async def charge(self, msg: Charge) -> int:
        self.emit(Added(kind="charge", number=msg.number))
        return len(self.totals["charge"])

    @command
    async def note(self, msg: Note) -> None:
        self.emit(Added(kind="note", number=msg.number))

    @command
    async def tick(self, msg: Tick) -> None:
        self.emit(Added(kind="tick", number=msg.number))

    @query
    async def read(self, msg: Totals) -> dict[str, list[int]]:
        return self.totals

    @event
    def added(self, fact: Added) -> None:
        self.totals.setdefault(fact.kind, []).append(fact.number)


def kill_itself(bus: Bus, where: str, number: int) -> None:
    """Lets the process die at its so many-th append or relay."""
    owner, name = (bus.log, "append") if where.startswith("append") else (bus.mail, "post")
    real: Callable[..., Awaitable[int]] = getattr(owner, name)
    count = 0

    async def call(*arguments: Any, **named: Any) -> int:
        nonlocal count
        count += arguments[0] != "in"
        if count == number and arguments[0] != "in" and where.endswith("<"):
            die()
        stored = await real(*arguments, **named)
        if count == number and arguments[0] != "in":
            die()
        return stored

    setattr(owner, name, call)
    replace_append(bus.log, bus.log.append)


app = System(APP, actors=[Kind(actor=Victim, policy=Policy(deaths_max=3, backoff=Backoff(first_s=0.0)))]).checked()


async def main() -> None:
    log_to_stderr()
    client = await connect(ServerAddress(url=URL), name=f"victim-{os.getpid()}")
    async with open_bus(client, APP) as bus:
        if WHERE != "never":
            kill_itself(bus, WHERE, int(NUMBER))
        async with app.host(bus) as node:
            await node.wait_stopped()


if __name__ == "__main__":
    asyncio.run(main())
