"""An actor that counts in its log, for tests of what happens around it."""

from regrow.actors import Actor, Event, Message, command, event, query


class Add(Message[int]):
    amount: int


class Total(Message[int]):
    pass


class Added(Event):
    amount: int


class Counter(Actor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(amount=msg.amount))
        return self.total

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount
