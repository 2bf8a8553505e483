"""The active actors of one kind in this process: who runs, who waits for a place, who has been idle for long enough to go."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from typing import Any, Protocol

import msgspec
import structlog

from regrow.actors.actor import Actor
from regrow.actors.cell import Cell
from regrow.actors.errors import CORRUPT, DRIFT, STORE, Drift, Failure, failure
from regrow.actors.intake import Intake
from regrow.actors.mailbox import Budget, Direct
from regrow.actors.policy import Policy
from regrow.actors.quarantine import Quarantine
from regrow.actors.records import Letter, Outcome
from regrow.actors.slot import Slot
from regrow.actors.tool import Remote
from regrow.bus import Address, Bus, BusError, Delivery, Undecodable
from regrow.bus.subjects import shard_of

_log = structlog.get_logger(__name__)

PASSIVATED_AT_ONCE = 16
"""Logs of one kind that are made short at once because their actors were idle."""
PRESSED_S = 1.0
"""How long a turn must only have waited before it is suspended where memory is short."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """How the actors of one class are kept. Made by ``System`` from a plain class, or given to it to say more."""

    actor: type[Actor]
    policy: Policy = Policy()
    active_max: int = 1_000
    """Actors of this kind that handle messages at once; the others wait with their mail."""
    idle_max: int = 10_000
    """Idle actors kept in memory; the longest idle one is dropped and comes back from its log."""
    idle_after_s: float = 300.0
    """How long an idle actor stays in memory; then its log is made short and it is dropped."""


class Hosting(Protocol):
    """What a group needs of its host."""

    bus: Bus
    budget: Budget
    intake: Intake
    quarantine: Quarantine

    def start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]: ...
    def remote_tool(self, name: str) -> Remote | None: ...
    def port(self, name: str) -> Any: ...
    def count(self, what: str) -> None: ...


class Group:
    """The active actors of one kind."""

    def __init__(self, kind: Kind, host: Hosting) -> None:
        self.kind = kind
        self.bus = host.bus
        self.quarantine = host.quarantine
        self.budget = host.budget
        self._intake = host.intake
        self.policy = kind.policy
        self.start = host.start
        self.remote_tool = host.remote_tool
        self.port = host.port
        self.count = host.count
        self._cells: OrderedDict[Address, Cell] = OrderedDict()
        """The longest unused first."""
        self._draining: dict[Address, asyncio.Task[None] | None] = {}
        """Who acts, and with None who is about to begin."""
        self._passivating: asyncio.Task[None] | None = None
        self._active = asyncio.Semaphore(kind.active_max)

    def __len__(self) -> int:
        """Actors in memory."""
        return len(self._cells)

    def cell(self, address: Address) -> Cell:
        """The cell of this actor, activated where there is none."""
        cell = self._cells.get(address)
        if cell is None:
            cell = self._cells[address] = Cell(self.kind.actor, address, self)
            if len(self._cells) - len(self._draining) > self.kind.idle_max:
                self.passivate()
        return cell

    def receive(self, delivery: Delivery) -> None:
        """Gives a message to its actor, which runs at once, or after a wave of mail and when its kind has room."""
        cell = self.cell(delivery.address)
        cell.put(delivery)
        if cell.trouble is not None:
            self.start(cell.complain)
        elif cell.address not in self._draining and not cell.suspended:
            self._draining[cell.address] = None
            self._intake.begin(partial(self._begin, cell))

    def ask(self, address: Address, letter: Letter) -> asyncio.Future[Outcome | None] | None:
        """The outcome of an ask of this process; None when its actor cannot take it now. Raises ``MailboxFull``."""
        cell = self.cell(address)
        if cell.trouble is not None or cell.suspended:
            return None
        direct = Direct(letter)
        cell.put_direct(direct)
        if address not in self._draining:
            self._draining[address] = self.start(self._drain, cell)
        return direct.answer

    def in_seq(self, address: Address) -> int:
        """How far an actor has taken its outside mailbox, as far as it is known here."""
        cell = self._cells.get(address)
        return cell.in_seq if cell is not None else 0

    def clear(self, shard: int | None = None) -> None:
        """Drops the actors of a shard, or all: their turns are cancelled, and whoever has the shard goes on from the log."""
        for address in [each for each in self._cells if shard is None or shard_of(each) == shard]:
            cell = self._cells.pop(address)
            task = self._draining.pop(address, None)
            if task is not None:
                task.cancel()
            cell.clear()

    def passivate(self, share: float = 0.0) -> None:
        """Begins to drop who has been idle for too long, who is idle beyond the kind's limit, and that share of all others."""
        if self._passivating is None or self._passivating.done():
            going, waiting = self._going(share), self._waiting(share)
            if going or waiting:
                self._passivating = self.start(self._passivate, going, waiting)

    def _going(self, share: float) -> list[Cell]:
        """The idle actors that are to be dropped, the longest unused first."""
        excess = len(self._cells) - len(self._draining) - self.kind.idle_max
        count = max(excess, int(share * len(self._cells)))
        before_s = time.monotonic() - self.kind.idle_after_s
        idle = (cell for cell in self._cells.values() if cell.idle and cell.address not in self._draining)
        going = list(islice(idle, max(count, 0)))
        going += (cell for cell in islice(idle, PASSIVATED_AT_ONCE * 64) if cell.idle_since_s < before_s)
        return going

    def _waiting(self, share: float) -> list[tuple[Cell, float]]:
        """The actors whose turns are to be suspended, and how long each must have waited: by the policy's time, or a moment
        where memory is short or more than the kind's limit wait."""
        after_s = self.policy.suspend_after_s
        turns = ((self._cells[each].waiting_turn, each) for each in self._draining if each in self._cells)
        quiet = sorted(((turn.waits.quiet_s() or 0.0, each) for turn, each in turns if turn is not None), reverse=True)
        many = max(len(quiet) - self.kind.idle_max, int(share * len(quiet)))
        pressed_s = min(PRESSED_S, after_s)
        return [
            (self._cells[address], pressed_s if number < many else after_s)
            for number, (quiet_s, address) in enumerate(quiet)
            if quiet_s >= (pressed_s if number < many else after_s)
        ]

    async def _passivate(self, going: list[Cell], waiting: list[tuple[Cell, float]]) -> None:
        queue, suspending = iter(going), iter(waiting)

        async def some() -> None:
            for cell in queue:
                await cell.passivate()
                if cell.idle and cell.address not in self._draining and self._cells.get(cell.address) is cell:
                    del self._cells[cell.address]
                    self.count("passivations")

        async def suspend_some() -> None:
            for cell, quiet_s in suspending:
                try:
                    await cell.suspend(quiet_s)
                except BusError as error:
                    _log.info("a turn is not suspended yet", actor=str(cell.address), error=str(error))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(PASSIVATED_AT_ONCE, len(going))):
                tasks.create_task(some())
            for _ in range(min(PASSIVATED_AT_ONCE, len(waiting))):
                tasks.create_task(suspend_some())

    def _begin(self, cell: Cell) -> asyncio.Task[None] | None:
        if self._cells.get(cell.address) is not cell:  # its shard was lost meanwhile
            return None
        task = self._draining[cell.address] = self.start(self._drain, cell)
        return task

    async def _drain(self, cell: Cell) -> None:
        try:
            async with Slot(self._active) as slot:
                await cell.drain(slot)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            _log.error("an actor was cancelled by nobody; it reads its log again", actor=str(cell.address))
            cell.forget()
        except Exception as error:  # the supervised edge of the runtime itself: one actor fails, its neighbours do not
            _log.exception("actor cannot go on; its mail waits", actor=str(cell.address), error=str(error))
            cell.trouble = trouble(error)
            asyncio.get_running_loop().call_later(self.policy.mend_after_s, self._mend, cell)
            if cell.trouble.kind != STORE:
                await cell.complain()
        self._done(cell)

    def _done(self, cell: Cell) -> None:
        if self._cells.get(cell.address) is not cell:
            return
        del self._draining[cell.address]
        self._cells.move_to_end(cell.address)
        if cell.suspended:
            if cell.empty:
                del self._cells[cell.address]
        elif not cell.idle and cell.trouble is None:
            self._draining[cell.address] = self.start(self._drain, cell)

    def _mend(self, cell: Cell) -> None:
        if self._cells.get(cell.address) is cell:
            cell.forget()
            self._draining[cell.address] = self.start(self._drain, cell)


def trouble(error: Exception) -> Failure:
    """What those who wait for an actor are told when it cannot go on."""
    if isinstance(error, Drift):
        return failure(DRIFT, str(error))
    if isinstance(error, BusError) and not isinstance(error, Undecodable):
        return failure(STORE, str(error))
    return failure(CORRUPT, f"{type(error).__name__}: {error}; the message stays in its mailbox")
