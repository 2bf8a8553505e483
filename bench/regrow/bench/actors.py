"""The actors that are measured: as little as an actor can do, so that what is measured is the runtime."""

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
