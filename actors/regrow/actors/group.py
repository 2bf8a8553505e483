"""The active actors of one kind in this process: who runs, who waits for a place, who has been idle for long enough to go.

A group is a supervisor's child whose own children are virtual: an actor that fails is restarted alone, by its cell. When the
group dies, all its turns are cancelled and the copies dropped; the mail stays, and goes to the copies that its successor reads.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import structlog

from regrow.actors.cell import Cell
from regrow.actors.crash_reports import Crash, CrashReports
from regrow.actors.errors import CORRUPT, DEFECT, DRIFT, STORE, Drift, Failure, failure
from regrow.actors.intake import Intake
from regrow.actors.kind import Kind as Kind
from regrow.actors.mailbox import Budget, Direct
from regrow.actors.passivation import PASSIVATED_AT_ONCE, going, waiting
from regrow.actors.per_key import FAILING_MIN, Failures, KindFailing, counts, verdict
from regrow.actors.quarantine import Quarantine
from regrow.actors.records import Letter, Outcome
from regrow.actors.slot import Slot
from regrow.actors.tasks import Tasks
from regrow.actors.tool import Remote
from regrow.bus import Address, Bus, BusError, Delivery, Undecodable
from regrow.bus.subjects import shard_of
from regrow.supervisor import Crashed, Detail, Exit, Shutdown, Start, StartFailed

_log = structlog.get_logger(__name__)


class Hosting(Protocol):
    """What a group needs of its host."""

    bus: Bus
    budget: Budget
    intake: Intake
    quarantine: Quarantine

    def holds(self, address: Address) -> bool: ...
    def remote_tool(self, name: str) -> Remote | None: ...
    def port(self, name: str) -> Any: ...
    def count(self, what: str) -> None: ...


class Group:
    """The active actors of one kind. ``run`` is a supervisor's child; mail that comes while it does not run waits for it."""

    def __init__(self, kind: Kind, host: Hosting) -> None:
        self.kind = kind
        self.bus = host.bus
        self.quarantine = host.quarantine
        self.budget = host.budget
        self._intake = host.intake
        self.policy = kind.policy
        self.start = self._start  # one bound method for all cells
        self.remote_tool = host.remote_tool
        self.port = host.port
        self.count = host.count
        self._cells: OrderedDict[Address, Cell] = OrderedDict()
        """The longest unused first."""
        self._draining: dict[Address, asyncio.Task[None] | None] = {}
        """Who acts, and with None who is about to begin."""
        self._passivating: asyncio.Task[None] | None = None
        self._active = asyncio.Semaphore(kind.active_max)
        self._holds = host.holds
        self._calm_s = kind.intensity.per_s + 2 * kind.policy.mend_after_s
        """A failing actor is tried again after ``mend_after_s``: one that has not failed for so long is failing no more."""
        self._reports = CrashReports()
        self._failures = Failures[Address](kind.intensity, self._calm_s)
        self._tasks: Tasks | None = None
        self.is_open = False
        """Whether actors may begin to act: not while those that do are being ended."""
        self._escalated: asyncio.Future[KindFailing] | None = None

    async def run(self, start: Start) -> None:
        """Lets the actors act until cancelled. Raises ``KindFailing`` when too many of them are failing."""
        cause: Exit = Shutdown()
        try:
            async with Tasks() as self._tasks:
                raise await self._act(start)
        except KindFailing as error:
            cause = Crashed(error)
            raise
        finally:
            self._tasks = None
            self._reports.close()
            self._drop_copies(cause)

    async def _act(self, start: Start) -> KindFailing:
        self._escalated = asyncio.get_running_loop().create_future()
        start.offer(self.detail)
        self.is_open = True
        try:
            for cell in self._cells.values():
                if not cell.idle and not cell.suspended:
                    self._begin_soon(cell)
            self.activate()
            start.ready()
            return await self._escalated
        finally:
            self.is_open = False

    def _start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]:
        """A task of this group. Raises RuntimeError while it does not run."""
        if self._tasks is None:
            raise RuntimeError(f"the actors of kind {self.kind.actor.__regrow__.kind} do not run now")
        return self._tasks.start(function, *arguments)

    def activate(self) -> None:
        """Begins the lives of those that live without mail, where this node has their shards and they do not live yet."""
        name = self.kind.actor.__regrow__.kind
        for address in (Address(name, key) for key in self.kind.pinned):
            if self.is_open and self._holds(address) and address not in self._cells:
                self._begin_soon(self.cell(address))

    def detail(self) -> Detail:
        """What a supervisor's tree shows of it."""
        failing = self._failures.failing(time.monotonic())
        return {"in_memory": len(self._cells), "at_work": len(self._draining), "failing": failing}

    def __len__(self) -> int:
        """Actors in memory."""
        return len(self._cells)

    def cell(self, address: Address) -> Cell:
        """The cell of this actor, activated where there is none."""
        cell = self._cells.get(address)
        if cell is None:
            pinned = address.key in self.kind.pinned
            cell = self._cells[address] = Cell(self.kind.actor, address, self, pinned=pinned)
            if len(self._cells) - len(self._draining) > self.kind.idle_max:
                self.passivate()
        return cell

    def receive(self, delivery: Delivery) -> None:
        """Gives a message to its actor, which runs at once, or after a wave of mail and when its kind has room."""
        cell = self.cell(delivery.address)
        cell.put(delivery)
        if not self.is_open:
            return
        if cell.trouble is not None:
            self.start(cell.complain)
        elif cell.address not in self._draining and not cell.suspended:
            self._begin_soon(cell)

    def ask(self, address: Address, letter: Letter) -> asyncio.Future[Outcome | None] | None:
        """The outcome of an ask of this process; None when its actor cannot take it now. Raises ``MailboxFull``."""
        if not self.is_open:
            return None
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
        if self.is_open and (self._passivating is None or self._passivating.done()):
            cells, acting = self._cells, self._draining
            excess = max(len(cells) - len(acting) - self.kind.idle_max, int(share * len(cells)))
            leaving = [cells[each] for each in going(self.kind, cells, acting, excess, time.monotonic())]
            at_work = (cells[each] for each in acting if each in cells)
            resting = [(cells[each], quiet_s) for each, quiet_s in waiting(self.kind, at_work, share)]
            if leaving or resting:
                self._passivating = self.start(self._passivate, leaving, resting)

    async def _passivate(self, leaving: list[Cell], resting: list[tuple[Cell, float]]) -> None:
        queue, suspending = iter(leaving), iter(resting)

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
            for _ in range(min(PASSIVATED_AT_ONCE, len(leaving))):
                tasks.create_task(some())
            for _ in range(min(PASSIVATED_AT_ONCE, len(resting))):
                tasks.create_task(suspend_some())

    def failed(self, cell: Cell, error: Exception, *, given_up: bool) -> int:
        """Notes that an actor failed: how often it has since it is failing, 0 when it is not."""
        row = self._failures.add(cell.address, time.monotonic(), given_up=given_up) if counts(error) else 0
        if row and not cell.failing:
            cell.failing = True
            self.judge()
        return row

    def report(self, crash: Crash) -> None:
        """Says that an attempt at a turn has failed."""
        self._reports.failed(crash)

    def did_well(self, cell: Cell) -> None:
        """One that was failing has ended a turn well."""
        self._failures.well(cell.address)

    def actor_of(self, task: asyncio.Task[Any]) -> Address | None:
        """The actor that this task works for. May be asked from another thread while the task has the event loop."""
        for address, drain in list(self._draining.items()):
            cell = self._cells.get(address)
            if drain is task or (cell is not None and cell.runs(task)):
                return address
        return None

    def judge(self) -> None:
        """Dies when too many are failing: whatever fails most of the actors is no matter of single ones."""
        now_s = time.monotonic()
        failing = self._failures.failing(now_s)
        if failing < FAILING_MIN or self._escalated is None or self._escalated.done():
            return
        ratio = self.kind.fails_max_ratio
        of = max(failing, self._at_work(now_s - self._calm_s, enough=int(failing / ratio) + 1))
        if verdict(failing, of, ratio):
            self._escalated.set_result(KindFailing(self.kind.actor.__regrow__.kind, failing, of))

    def _at_work(self, since_s: float, *, enough: int) -> int:
        """How many are at work or have been since then; counts no further than to ``enough``."""
        count = len(self._draining)
        for cell in reversed(self._cells.values()):
            if count >= enough:
                break
            if cell.address not in self._draining:
                if cell.idle_since_s < since_s and cell.trouble is None:
                    break
                count += 1
        return count

    def _drop_copies(self, cause: Exit) -> None:
        """What every actor knew is forgotten, and comes back from its log; its mail is kept."""
        self._draining.clear()
        self._failures.clear()
        for cell in self._cells.values():
            cell.drop(cause)

    def _begin_soon(self, cell: Cell) -> None:
        self._draining[cell.address] = None
        self._intake.begin(partial(self._begin, cell))

    def _begin(self, cell: Cell) -> asyncio.Task[None] | None:
        begun = self._draining.get(cell.address, self) is not None
        if (
            begun or not self.is_open or self._cells.get(cell.address) is not cell
        ):  # its shard was lost, or the group died
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
            cell.died(Crashed(asyncio.CancelledError()))
            cell.forget()
        except Exception as error:  # the supervised edge of the runtime itself: one actor fails, its neighbours do not
            cell.trouble = trouble(error)
            outage = cell.trouble.kind == STORE  # nothing of the actor's, or of ours: no traceback tells more
            log = _log.warning if outage else _log.exception
            log("actor cannot go on; its mail waits", actor=str(cell.address), error=str(error))
            cell.died(Crashed(error))
            self.failed(cell, error, given_up=True)
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
            if cell.empty and not cell.pinned:
                del self._cells[cell.address]
        elif self.is_open and not cell.idle and cell.trouble is None:
            self._draining[cell.address] = self.start(self._drain, cell)

    def _mend(self, cell: Cell) -> None:
        if self.is_open and self._cells.get(cell.address) is cell and cell.trouble is not None:
            cell.forget()
            self._draining[cell.address] = self.start(self._drain, cell)


def trouble(error: Exception) -> Failure:
    """What those who wait for an actor are told when it cannot go on."""
    if isinstance(error, Drift):
        return failure(DRIFT, str(error))
    if isinstance(error, BusError) and not isinstance(error, Undecodable):
        return failure(STORE, str(error))
    if isinstance(error, StartFailed):
        return failure(DEFECT, str(error))
    return failure(CORRUPT, f"{type(error).__name__}: {error}; the message stays in its mailbox")
