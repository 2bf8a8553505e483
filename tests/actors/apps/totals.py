"""An application with a projection, run as a process of its own and killed: ``python totals.py URL APP DATABASE``.

The projection keeps its position in the transaction in which it counts; it says on standard output what it counts, and what is
committed.
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from regrow.actors import Actor, Event, Kind, Message, Policy, System, command, event
from regrow.actors.happening import Recorded
from regrow.actors.logs import log_to_stderr
from regrow.actors.projecting import Positions
from regrow.actors.projection import Projection
from regrow.bus import open_bus
from regrow.bus.connection import ServerAddress, connect

URL, APP, DATABASE = sys.argv[1:4]


class Spend(Message[int]):
    number: int


class Spent(Event):
    number: int


class Purse(Actor):
    spent: int = 0

    @command
    async def spend(self, msg: Spend) -> int:
        self.emit(Spent(number=msg.number))
        return self.spent

    @event
    def counted(self, fact: Spent) -> None:
        self.spent += 1


def say(what: str) -> None:
    """One line on standard output."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


class Totals(Projection, of=Purse):
    """Counts every event in a table that would take it twice."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(DATABASE, isolation_level=None, timeout=30.0)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS position (stream INTEGER PRIMARY KEY, sequence INTEGER)")
        self._db.execute("CREATE TABLE IF NOT EXISTS counted (key TEXT, number INTEGER)")

    @asynccontextmanager
    async def batch(self) -> AsyncGenerator[None]:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield
        say(f"committed {self._db.execute('SELECT count(*) FROM counted').fetchone()[0]}")

    async def load(self) -> Positions:
        return dict(self._db.execute("SELECT stream, sequence FROM position"))

    async def save(self, positions: Positions) -> None:
        self._db.executemany("INSERT OR REPLACE INTO position VALUES (?, ?)", positions.items())

    @event
    async def spent(self, fact: Spent, at: Recorded) -> None:
        self._db.execute("INSERT INTO counted VALUES (?, ?)", (at.key, fact.number))
        await asyncio.sleep(0)
        say("counted")


app = System(
    APP, actors=[Kind(actor=Purse, policy=Policy(history="keep", deaths_max=1_000))], children=[Totals()]
).checked()


async def main() -> None:
    log_to_stderr()
    client = await connect(ServerAddress(url=URL), name=f"totals-{os.getpid()}")
    async with open_bus(client, APP) as bus, app.host(bus) as node:
        say("ready")
        await node.wait_stopped()


if __name__ == "__main__":
    asyncio.run(main())
