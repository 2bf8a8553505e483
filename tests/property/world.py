"""A bus in memory on which each universe (a performer and its peer) dies at its own moment, and what the witness has seen there.

Nothing that a dead universe tries through the bus goes anywhere: it waits for ever, until its host is ended. Then it is revived and
the next host goes on with what is stored.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Literal, NamedTuple

from tests.property.oracle import TOKEN, Told
from tests.property.programs import Node

from regrow.bus import Address, Box, MemoryBus, Request, headers
from regrow.bus.headers import Headers
from regrow.bus.memory_log import MemoryLog
from regrow.bus.memory_mail import MemoryMail
from regrow.bus.port import Attempted

Where = Literal["before", "after"]
WHERES: tuple[Where, ...] = ("before", "after")
Observed = dict[tuple[int, str], list[str]]
"""By attempt and task."""

SLOWEST = 12


class Point(NamedTuple):
    """The journal write at which a universe dies. 0: never."""

    write: int = 0
    where: Where = "before"
    again: int = 0
    """Another one, after which it dies once more. 0: it does not."""


NEVER = Point()


class Universe:
    """One program's performer and peer, from its first life to its last."""

    def __init__(self, key: str, program: Node, point: Point = NEVER) -> None:
        self.key = key
        self.program = program
        self.point = point
        self.dead = False
        self.died = False
        """Whether it reached its point."""
        self.life = 1
        self.blocked = False
        """No tool may run: all has to come from the log."""
        self.writes = 0
        self.records: defaultdict[str, list[bytes]] = defaultdict(list)
        """By kind, those that a roll-up has replaced included."""
        self.told: defaultdict[str, Told] = defaultdict(Told)
        self.observed: list[Observed] = []
        """By life."""
        self.executed = 0
        self.wrong: list[str] = []
        self.reply: Request | None = None
        self._tokens = count(1)
        self.over = asyncio.Event()
        """It is dead, or has answered."""

    def revive(self) -> None:
        """Its dead host is gone."""
        self.dead = False
        self.life += 1
        if self.reply is None:
            self.over.clear()

    def token(self) -> str:
        """One that no other execution in this universe has. Their order is the same in every trial of a program until it dies."""
        return f"u{next(self._tokens)}"

    async def alive(self) -> None:
        """Returns to the living only."""
        if self.dead:
            await asyncio.Event().wait()

    def begin_write(self) -> bool:
        """Counts a journal write, and dies before it if it is the one; whether to die after it."""
        self.writes += 1
        here = self.writes == self.point.write
        if here and self.point.where == "before":
            self._die()
        return here or self.writes == self.point.again

    def add(self, kind: str, data: bytes) -> None:
        """A record is in the log."""
        self.records[kind].append(data)
        self.told[kind].add(data)

    def end_write(self, kind: str, data: bytes, *, last: bool) -> None:
        """A record is stored."""
        self.add(kind, data)
        if last:
            self._die()

    def _die(self) -> None:
        self.dead = self.died = True
        self.over.set()

    def execute(self, kind: str, key: str, *, known: bool) -> None:
        """A tool's body begins; ``known``: although the log has what became of the step."""
        self.executed += 1
        self.check(not known, f"runs again although it is recorded: {kind} {key}")

    def observe(self, life: int, attempt: int, task: str, what: str) -> None:
        """A task of the handler has seen or decided something."""
        while len(self.observed) < life:
            self.observed.append({})
        self.observed[life - 1].setdefault((attempt, task), []).append(what)

    def answered(self, reply: Request) -> None:
        if self.reply is not None and self.reply.body != reply.body:
            self.wrong.append("answered in two ways")
        self.reply = reply
        self.over.set()

    def check(self, condition: bool, what: str) -> None:
        """Notes what is wrong."""
        if not condition:
            self.wrong.append(f"life {self.life}: {what}")


class UniverseRun:
    """One attempt at a handler of a universe; see ``Run``."""

    def __init__(self, universe: Universe, kind: str) -> None:
        self.program = universe.program
        self._universe = universe
        self._kind = kind
        self._life = universe.life
        self._attempt = universe.told[kind].attempts

    @property
    def _gone(self) -> bool:
        return self._universe.dead or self._universe.life != self._life

    async def execute(self, key: str, tool: str) -> str:
        if self._gone:
            await asyncio.Event().wait()
        self._universe.execute(self._kind, key, known=self._universe.told[self._kind].has(key))
        if self._universe.blocked:
            await asyncio.Event().wait()
        return self._universe.token()

    def execute_in_thread(self, key: str, tool: str) -> str:
        universe = self._universe
        if not self._gone:
            universe.execute(self._kind, key, known=universe.told[self._kind].has_outcome(key))
        return universe.token()

    def observe(self, task: str, what: str) -> None:
        if not self._gone:
            self._universe.observe(self._life, self._attempt, task, what)

    def shown(self, text: str) -> None:
        if not self._gone:
            told = self._universe.told
            early = [token for token in TOKEN.findall(text) if not any(token in each.tokens for each in told.values())]
            self._universe.check(not early, f"shown before it was recorded: {text}")

    def ticks(self, number: int) -> int:
        return number if self._life % 2 else SLOWEST - number


class World(MemoryBus):
    """The bus of many universes, each keyed as its actors are."""

    def __init__(self, app: str, universes: Sequence[Universe]) -> None:
        super().__init__(app)
        self.universes = {each.key: each for each in universes}
        self.log = _Log(self)
        self.mail = _Mail(self)
        self._replies: dict[str, Universe] = {}

    def begin(self, kind: str, key: str) -> UniverseRun:
        """The run of an attempt that begins."""
        return UniverseRun(self.universes[key], kind)

    def expect(self, universe: Universe) -> Headers:
        """The headers of a message that wants an answer for this universe."""
        subject = f"_INBOX.universe.{universe.key}"
        self._replies[subject] = universe
        return {headers.ID: f"perform-{universe.key}", headers.REPLY: subject}

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        universe = self._replies.get(subject)
        if universe is None:
            await super().publish(subject, body, headers)
            return
        await universe.alive()
        universe.answered(Request(subject, body, dict(headers or {}), ""))


class _Log(MemoryLog):
    def __init__(self, world: World) -> None:
        super().__init__(world.claims)
        self._world = world

    async def append(self, address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        universe = self._world.universes[address.key]
        await universe.alive()
        last = universe.begin_write()
        await universe.alive()
        sequence = await super().append(address, data, rid=rid, after=after, rollup=rollup)
        universe.end_write(address.kind, data, last=last)
        await universe.alive()
        return sequence

    def attempt(self, address: Address, data: bytes, *, rid: str, after: int, done: Attempted) -> None:
        universe = self._world.universes[address.key]
        if universe.dead:
            return
        last = universe.begin_write()

        def stored(sequence: int | None) -> None:
            if sequence is not None:
                universe.end_write(address.kind, data, last=last)
            if not universe.dead:
                done(sequence)

        if not universe.dead:
            super().attempt(address, data, rid=rid, after=after, done=stored)


class _Mail(MemoryMail):
    def __init__(self, world: World) -> None:
        super().__init__(world.claims)
        self._world = world
        self._owners: dict[tuple[Box, int], Universe] = {}

    async def post(
        self,
        box: Box,
        address: Address,
        body: bytes,
        headers: Headers | None = None,
        *,
        message_id: str | None = None,
    ) -> int:
        universe = self._world.universes[address.key]
        await universe.alive()
        sequence = await super().post(box, address, body, headers, message_id=message_id)
        self._owners[box, sequence] = universe
        return sequence

    async def remove(self, box: Box, sequence: int) -> None:
        await self._owners[box, sequence].alive()
        await super().remove(box, sequence)
