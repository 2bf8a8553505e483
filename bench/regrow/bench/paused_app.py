"""The application that ``paused`` stops in the middle of its work. ``python paused_app.py URL APP``.

It says on its standard output, as one line of JSON, who it is, and serves until it is killed or its standard input ends.
"""

import asyncio
import os
import sys

import msgspec

from regrow.actors import Actor, Event, Kind, Message, Policy, System, command, event, query
from regrow.actors.logs import log_to_stderr
from regrow.actors.writer import next_record_id
from regrow.bench.chaos_app import wait_orphaned
from regrow.bus import open_bus
from regrow.bus.connection import ServerAddress, connect


class Who(msgspec.Struct, frozen=True):
    """A process of this application."""

    pid: int
    nonce: str
    """What the ids of its records begin with."""


class Seen(msgspec.Struct, frozen=True):
    """What a receiver shows: which process answers, and how much it has applied."""

    pid: int
    version: int


class Flood(Message[int]):
    """Sends so many messages to the receivers, by turns."""

    op: str
    count: int
    receivers: int


class Apply(Message[int]):
    """Is applied once, and answered with how many have been applied."""

    op: str


class Peek(Message[Seen]):
    """Asks what a receiver has applied."""


class Applied(Event):
    op: str


class Flooder(Actor):
    """Sends."""

    floods: int = 0

    @command
    async def flood(self, msg: Flood) -> int:
        for number in range(msg.count):
            self.send(self.ref(Receiver, f"r{number % msg.receivers}"), Apply(op=f"{msg.op}>{number}"))
        self.emit(Applied(op=msg.op))
        return msg.count

    @event
    def applied(self, fact: Applied) -> None:
        self.floods += 1


class Receiver(Actor):
    """Keeps a list of what it applied."""

    ops: list[str] = []

    @command
    async def apply(self, msg: Apply) -> int:
        self.emit(Applied(op=msg.op))
        return len(self.ops)

    @query
    async def peek(self, msg: Peek) -> Seen:
        return Seen(os.getpid(), len(self.ops))

    @event
    def applied(self, fact: Applied) -> None:
        self.ops.append(fact.op)


def system(app: str) -> System:
    """Actors whose logs stay whole, so that every write of every process can be counted."""
    policy = Policy(snapshot_every=10**9, snapshot_distance=10**9)
    return System(app, [Kind(actor=each, policy=policy, idle_after_s=86_400.0) for each in (Flooder, Receiver)])


async def main(url: str, app: str) -> None:
    log_to_stderr()
    orphaned = asyncio.create_task(wait_orphaned())
    client = await connect(ServerAddress(url=url), name=f"paused-{os.getpid()}")
    async with open_bus(client, app) as bus, system(app).host(bus) as node:
        who = Who(os.getpid(), next_record_id().rpartition("-")[0])
        sys.stdout.write(msgspec.json.encode(who).decode() + "\n")
        sys.stdout.flush()
        stopped = asyncio.create_task(node.wait_stopped())
        await asyncio.wait((orphaned, stopped), return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            stopped.result()
        os._exit(0)  # nobody is left who would wait for a decent end


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
