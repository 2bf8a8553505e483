"""The application that the chaos run kills: accounts that keep a list of what they applied. ``python chaos_app.py URL APP``.

It hosts them until it is killed or its standard input ends, which is when whoever started it is gone.
"""

import asyncio
import os
import sys

import msgspec

from regrow.actors import Actor, Event, Kind, Message, Policy, System, command, event, query
from regrow.actors.logs import log_to_stderr
from regrow.bus import open_bus
from regrow.bus.connection import ServerAddress, connect

FETCH_TIMEOUT_S = 120.0
"""Longer than any pause that the chaos makes: a question that fails is a finding, not an excuse."""

IDLE_MAX = 100
"""Fewer than there are accounts, so that some are read from their logs again and again."""


class Done(msgspec.Struct, frozen=True):
    """What an operation came to, and how many had been applied with it."""

    result: int
    version: int


class Shown(msgspec.Struct, frozen=True):
    """All that an account holds."""

    value: int
    applied: list[tuple[str, int]]


class Add(Message[Done]):
    op: str
    argument: int


class Write(Message[Done]):
    op: str
    argument: int


class Read(Message[Done]):
    op: str


class Forward(Message[Done]):
    op: str
    argument: list[str]


class Arrive(Message[Done]):
    op: str


class Later(Message[Done]):
    op: str
    argument: int


class Fetch(Message[Done]):
    op: str
    argument: str


class Peek(Message[Done]):
    op: str


class Show(Message[Shown]):
    pass


class Applied(Event):
    op: str
    value: int
    result: int


class Account(Actor):
    """A counter and a register in one."""

    value: int = 0
    applied: list[tuple[str, int]] = []

    @command
    async def add(self, message: Add) -> Done:
        total = self.value + message.argument
        return self.apply(message.op, total, total)

    @command
    async def write(self, message: Write) -> Done:
        return self.apply(message.op, message.argument, self.value)

    @command
    async def read(self, message: Read) -> Done:
        return self.apply(message.op, self.value, self.value)

    @command
    async def forward(self, message: Forward) -> Done:
        for at, key in enumerate(message.argument):
            self.send(self.ref(Account, key), Arrive(op=f"{message.op}>{at}"))
        return self.apply(message.op, self.value, self.value)

    @command
    async def arrive(self, message: Arrive) -> Done:
        return self.apply(message.op, self.value + 1, self.value + 1)

    @command
    async def later(self, message: Later) -> Done:
        self.set_timer(message.op, Arrive(op=f"{message.op}@"), after_s=message.argument / 1000)
        return self.apply(message.op, self.value, self.value)

    @command
    async def fetch(self, message: Fetch) -> Done:
        asked = Add(op=f"{message.op}?", argument=1)
        answer = await self.ref(Account, message.argument).ask(asked, timeout_s=FETCH_TIMEOUT_S)
        return self.apply(message.op, self.value, answer.result)

    @query
    async def peek(self, message: Peek) -> Done:
        return Done(self.value, len(self.applied))

    @query
    async def show(self, message: Show) -> Shown:
        return Shown(self.value, self.applied)

    @event
    def noted(self, fact: Applied) -> None:
        self.value = fact.value
        self.applied.append((fact.op, fact.result))

    def apply(self, op: str, value: int, result: int) -> Done:
        self.emit(Applied(op=op, value=value, result=result))
        return Done(result, len(self.applied))


def system(app: str) -> System:
    """Accounts whose states are compared with their logs after every turn, rolled up often and kept in memory seldom."""
    accounts = Kind(actor=Account, policy=Policy(snapshot_every=25), idle_max=IDLE_MAX)
    return System(app, actors=[accounts]).checked()


async def wait_orphaned() -> None:
    """Returns when standard input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def main(url: str, app: str) -> None:
    log_to_stderr()
    orphaned = asyncio.create_task(wait_orphaned())
    client = await connect(ServerAddress(url=url), name=f"chaos-{os.getpid()}")
    async with open_bus(client, app) as bus, system(app).host(bus) as node:
        stopped = asyncio.create_task(node.wait_stopped())
        await asyncio.wait((orphaned, stopped), return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            stopped.result()
        os._exit(0)  # nobody is left who would wait for a decent end


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
