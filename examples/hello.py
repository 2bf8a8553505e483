"""A counter: `regrow dev hello:app`, then from any shell `nats req rg.hello.ask.counter.a '{"type":"Add","amount":2}'`."""

from regrow.actors import Actor, Event, Message, System, command, event


class Add(Message[int]):  # a message whose reply is an int: ask() is typed by it
    amount: int


class Added(Event):
    amount: int


class Counter(Actor):
    total: int = 0  # state: typed fields, rebuilt by folding events

    @command
    async def add(self, message: Add) -> int:
        self.emit(Added(amount=message.amount))  # applied at once, durable when the turn commits
        return self.total  # sent after the commit

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


app = System("hello", actors=[Counter])
