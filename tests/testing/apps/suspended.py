"""Turns that wait in all ways that can be suspended: asks of actors that sleep, sleeps, both beside each other, and a deadline.

``app`` waits for long, which passes almost at once in virtual time; ``quick`` for seconds, on a real server.
"""

import asyncio
from typing import Any

import msgspec

from regrow.actors import (
    Actor,
    AskTimeout,
    Event,
    Kind,
    Message,
    Policy,
    Refused,
    System,
    command,
    event,
    query,
    timeout,
    tool,
)
from regrow.supervisor import Backoff
from regrow.testing import Outside

LONG = 10.0
SHORT = 2.8
"""Seconds; twice as much is long enough to be suspended."""
POLICY = Policy(backoff=Backoff(first_s=0.0), deaths_max=1_000, suspend_after_s=0.0)


class Rest(Message[int]):
    number: int


class Trip(Message[int]):
    number: int


class Remind(Message[None]):
    number: int


class Add(Message[int]):
    number: int


class Done(Event):
    number: int
    sum: int


class Rested(Event):
    number: int


class Read(Message[list[int]]):
    pass


@tool
async def weigh(number: int) -> int:
    return number * 10


class Hotel(Actor):
    """Lets its guests sleep."""

    rested: list[int] = []

    @command
    async def rest(self, msg: Rest) -> int:
        unit: float = self.port("unit")
        await self.sleep(2 * unit * msg.number)
        if msg.number > 2:
            raise Refused("no room")
        self.emit(Rested(number=msg.number))
        return await weigh(msg.number)

    @event
    def on_rested(self, fact: Rested) -> None:
        self.rested.append(fact.number)


class Traveller(Actor):
    done: list[list[int]] = []

    @command
    async def trip(self, msg: Trip) -> int:
        unit: float = self.port("unit")
        first = await weigh(msg.number)
        one, _, two = await asyncio.gather(
            self.ref(Hotel, f"{self.key}-1").ask(Rest(number=1), timeout_s=100 * unit),
            self.sleep(1.9 * unit),
            self.ref(Hotel, f"{self.key}-2").ask(Rest(number=1), timeout_s=100 * unit),
        )
        self.emit(Done(number=msg.number, sum=first + one + two))
        if unit < LONG:
            return first + one + two
        try:
            await self.ref(Hotel, f"{self.key}-3").ask(Rest(number=2), timeout_s=unit)
        except AskTimeout:
            await weigh(first)
        try:
            async with timeout(unit):
                await self.ref(Hotel, f"{self.key}-6").ask(Rest(number=2), timeout_s=100 * unit)
        except TimeoutError:
            async with timeout(50 * unit):
                await self.ref(Hotel, f"{self.key}-7").ask(Rest(number=1), timeout_s=100 * unit)
        try:
            await self.ref(Hotel, f"{self.key}-4").ask(Rest(number=3), timeout_s=100 * unit)
        except Refused:
            self.set_timer("remind", Remind(number=msg.number), after_s=0.1)
        self.send(self.ref(Hotel, f"{self.key}-5"), Rest(number=1))
        return first + one + two

    @command
    async def remind(self, msg: Remind) -> None:
        unit: float = self.port("unit")
        await self.sleep(unit)
        self.emit(Done(number=msg.number, sum=-1))

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Done(number=msg.number, sum=0))
        return len(self.done)

    @query
    async def read(self, msg: Read) -> list[int]:
        return [number for number, _ in self.done]

    @event
    def on_done(self, fact: Done) -> None:
        self.done.append([fact.number, fact.sum])


def system(unit: float, snapshot_every: int = 500) -> System:
    policy = msgspec.structs.replace(POLICY, snapshot_every=snapshot_every)
    kinds = [Kind(actor=each, policy=policy) for each in (Traveller, Hotel)]
    return System("suspended", kinds, ports={"unit": unit})


def app() -> System:
    return system(LONG)


def with_snapshots() -> System:
    """After every record."""
    return system(LONG, 1)


quick = system(SHORT)


async def scenario(outside: Outside) -> Any:
    traveller = outside.ref(Traveller, "a")
    async with asyncio.TaskGroup() as tasks:
        tripping = tasks.create_task(traveller.ask(Trip(number=1)))
        await asyncio.sleep(0.1)
        adding = tasks.create_task(traveller.ask(Add(number=2)))
    return tripping.result(), adding.result()
