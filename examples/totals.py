"""What all purses have spent, in a table of SQLite that is brought up to date by a projection: `regrow dev totals:app`.

`nats req rg.totals.ask.purse.anna '{"type":"Spend","cents":300}'`, then `sqlite3 totals.db 'SELECT * FROM total'`. The table holds
each event exactly once, whatever is killed in between: the position is written in the same transaction.
"""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path

from regrow.actors import Actor, Event, Kind, Message, Policy, System, command, event
from regrow.actors.happening import Recorded
from regrow.actors.projecting import Positions
from regrow.actors.projection import Projection

SCHEMA = """
CREATE TABLE IF NOT EXISTS position (stream INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS total (purse TEXT PRIMARY KEY, cents INTEGER NOT NULL);
"""


class Spend(Message[int]):
    cents: int


class Spent(Event):
    cents: int


class Purse(Actor):
    spent: int = 0

    @command
    async def spend(self, message: Spend) -> int:
        self.emit(Spent(cents=message.cents))
        return self.spent

    @event
    def took(self, fact: Spent) -> None:
        self.spent += fact.cents


class Totals(Projection, of=Purse):
    def __init__(self, path: Path) -> None:
        self.path = path

    @event
    async def spent(self, fact: Spent, at: Recorded) -> None:
        add = "INSERT INTO total VALUES (?, ?) ON CONFLICT (purse) DO UPDATE SET cents = cents + excluded.cents"
        self.db.execute(add, (at.key, fact.cents))

    async def deleted(self, at: Recorded) -> None:
        self.db.execute("DELETE FROM total WHERE purse = ?", (at.key,))

    @cached_property
    def db(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.executescript(SCHEMA)
        return connection

    @asynccontextmanager
    async def batch(self) -> AsyncGenerator[None]:  # load, the handlers of a batch and save: one transaction
        with self.db:  # commits, or rolls back when anything was raised
            self.db.execute("BEGIN IMMEDIATE")
            yield

    async def load(self) -> Positions:
        return dict(self.db.execute("SELECT stream, sequence FROM position"))

    async def save(self, positions: Positions) -> None:
        self.db.executemany("INSERT OR REPLACE INTO position VALUES (?, ?)", positions.items())

    async def forget(self) -> None:  # reset() builds the table anew
        with self.db:
            self.db.execute("DELETE FROM position")
            self.db.execute("DELETE FROM total")


app = System(
    "totals",
    actors=[Kind(actor=Purse, policy=Policy(history="keep"))],
    children=[Totals(Path("totals.db"))],
)
