"""A counter that sends to a board and sets timers; every message of it can be told apart in what the two have become."""

from regrow.actors import Actor, Event, Message, Refused, System, command, event, query
from regrow.testing import Outside


class Add(Message[int]):
    amount: int


class Remind(Message[None]):
    amount: int


class Added(Event):
    amount: int
    by: str


class Note(Message[None]):
    amount: int


class Read(Message[list[int]]):
    pass


class Counter(Actor):
    total: int = 0
    by: dict[str, int] = {}

    @command
    async def add(self, msg: Add) -> int:
        if msg.amount < 0:
            raise Refused("counters go up")
        self.emit(Added(amount=msg.amount, by="add"))
        for part in range(2):
            self.send(self.ref(Board, "all"), Note(amount=10 * msg.amount + part))
        self.set_timer(f"remind {msg.amount}", Remind(amount=msg.amount), after_s=0.2 * msg.amount)
        return self.total

    @command
    async def remind(self, msg: Remind) -> None:
        self.emit(Added(amount=msg.amount, by="remind"))

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount if fact.by == "add" else 0
        self.by[fact.by] = self.by.get(fact.by, 0) + 1


class Board(Actor, persist="fields"):
    notes: list[int] = []

    @command
    async def note(self, msg: Note) -> None:
        self.notes.append(msg.amount)

    @query
    async def read(self, msg: Read) -> list[int]:
        return self.notes


app = System("counters", actors=[Counter, Board])


async def scenario(outside: Outside) -> list[int | str]:
    counter = outside.ref(Counter, "a")
    totals = [await counter.ask(Add(amount=amount)) for amount in (1, 2, 3)]
    try:
        await counter.ask(Add(amount=-1))
    except Refused as no:
        return [*totals, no.message]
    return []
