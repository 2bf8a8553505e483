"""An application that tests run as a process of its own and kill: ``python ledger.py URL APP WITNESS``.

Its tools say on standard output and in the witness file, which is only ever appended to, when they ran.
"""

import asyncio
import os
import sys
import time

from regrow.actors import Actor, Event, Kind, Message, Policy, System, command, current_step, event, query, tool
from regrow.actors.logs import log_to_stderr
from regrow.bus import open_bus
from regrow.bus.connection import ServerAddress, connect

URL, APP, WITNESS = sys.argv[1:4]


class Book(Message[int]):
    number: int


class Booked(Event):
    number: int
    amount: int


class Numbers(Message[list[int]]):
    pass


class Count(Message[int]):
    number: int


class Counted(Event):
    pass


class Total(Message[int]):
    pass


def say(what: str) -> None:
    """One line on standard output."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def witness(what: str) -> None:
    """One line, in one write to a file opened for appending: lines of several processes do not mix."""
    file = os.open(WITNESS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{time.time_ns()} {what}\n".encode())
    os.close(file)
    say(what)


@tool
async def weigh(number: int, part: int) -> int:
    context = current_step()
    assert context is not None
    witness(f"{context.actor} {context.key}")
    await asyncio.sleep(0.001 * part)
    return part


@tool
def check(number: int, sum_of_parts: int) -> int:
    context = current_step()
    assert context is not None
    witness(f"{context.actor} {context.key}")
    return sum_of_parts


class Ledger(Actor):
    """Books each message once, by steps in several tasks."""

    numbers: list[int] = []
    amount: int = 0

    @command
    async def book(self, msg: Book) -> int:
        parts = await asyncio.gather(*(weigh(msg.number, part) for part in range(3)))
        amount = await check(msg.number, sum(parts))
        self.emit(Booked(number=msg.number, amount=amount))
        self.send(self.ref(Counter, "all"), Count(number=msg.number))
        return self.amount

    @command
    async def say(self, msg: Numbers) -> list[int]:
        return self.numbers

    @event
    def booked(self, fact: Booked) -> None:
        self.numbers.append(fact.number)
        self.amount += fact.amount


class Counter(Actor):
    """Counts what all ledgers booked; its log is rolled up all the time."""

    total: int = 0

    @command
    async def count(self, msg: Count) -> int:
        self.emit(Counted())
        return self.total

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @event
    def counted(self, fact: Counted) -> None:
        self.total += 1


KILLED = Policy(deaths_max=1_000)
"""Killed again and again before a step is recorded, a message is not poison here."""

app = System(
    APP,
    actors=[
        Kind(actor=Ledger, policy=KILLED),
        Kind(actor=Counter, policy=Policy(snapshot_every=3, deaths_max=1_000)),
    ],
).checked()


async def main() -> None:
    log_to_stderr()
    client = await connect(ServerAddress(url=URL), name=f"ledger-{os.getpid()}")
    async with open_bus(client, APP) as bus, app.host(bus) as node:
        say("ready")
        await node.wait_stopped()


if __name__ == "__main__":
    asyncio.run(main())
