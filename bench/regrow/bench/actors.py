"""The actors that are measured: as little as an actor can do, so that what is measured is the runtime."""

import asyncio
from typing import Any

from regrow.actors import Actor, Event, LocalActor, Message, command, event, tool


class Add(Message[int]):
    """Adds, and is answered with the total."""

    amount: int


class Added(Event):
    """What ``Add`` decides."""

    amount: int


class Work(Message[int]):
    """Runs that many steps."""

    steps: int


class LocalCounter(LocalActor):
    """Counts in memory."""

    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.total += msg.amount
        return self.total


class PlainCounter:
    """The same without a runtime, for the floor."""

    def __init__(self) -> None:
        self.total = 0

    async def add(self, msg: Add) -> int:
        self.total += msg.amount
        return self.total


class Latch:
    """Opens when so many have been through."""

    def __init__(self, many: int) -> None:
        self.left = many
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Through(Message[None]):
    """Goes through a latch."""

    latch: Any


class Goer(LocalActor):
    """Goes through latches."""

    @command
    async def go(self, msg: Through) -> None:
        latch = msg.latch
        latch.left -= 1
        if not latch.left:
            latch.opened.set_result(None)


class PlainGoer:
    """The same without a runtime."""

    async def go(self, msg: Through) -> None:
        latch = msg.latch
        latch.left -= 1
        if not latch.left:
            latch.opened.set_result(None)


class Token(Message[None]):
    """Goes from one to the next, so many times more."""

    left: int
    ended: Any
    """A future, done where the token is used up."""


class Pass(Message[None]):
    """Says where tokens go from here."""

    to: Any


class Relay(LocalActor):
    """Passes tokens on."""

    to: Any = None

    @command
    async def point(self, msg: Pass) -> None:
        self.to = msg.to

    @command
    async def handle(self, msg: Token) -> None:
        if msg.left:
            self.to(Token(left=msg.left - 1, ended=msg.ended))
        else:
            msg.ended.set_result(None)


class PlainRelay:
    """The same without a runtime."""

    to: Any = None

    async def handle(self, msg: Token) -> None:
        if msg.left:
            self.to(Token(left=msg.left - 1, ended=msg.ended))
        else:
            msg.ended.set_result(None)


class Counter(Actor, kind="bench_counter"):
    """Counts in its log."""

    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(amount=msg.amount))
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


@tool
async def trivial(number: int) -> int:
    """A step whose own work takes no time."""
    return number


class Worker(Actor, kind="bench_worker"):
    """Runs steps one after the other."""

    @command
    async def work(self, msg: Work) -> int:
        done = 0
        for number in range(msg.steps):
            done += await trivial(number) == number
        return done
