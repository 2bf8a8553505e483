"""The host: all durable actors of an application that are active in this process, fed by the mailboxes of its shards."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from itertools import islice
from typing import Any

import msgspec
import structlog

from regrow.actors.actor import Actor
from regrow.actors.cell import Cell
from regrow.actors.dead_letter import bury
from regrow.actors.errors import CORRUPT, DRIFT, STORE, UNKNOWN, Drift, Failure, failure
from regrow.actors.lineage import task_factory
from regrow.actors.policy import Policy
from regrow.actors.records import Outcome
from regrow.actors.slot import Slot
from regrow.actors.tool import Remote
from regrow.actors.wire import letter_of, reply_message, reply_subject, undecodable
from regrow.bus import Address, Bus, BusError, Delivery, Request, Undecodable, check_address
from regrow.bus.subjects import SHARDS, Subjects, shard_of
from regrow.supervisor import Start

_log = structlog.get_logger(__name__)


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """How the actors of one class are kept. Made by ``System`` from a plain class, or given to it to say more."""

    actor: type[Actor]
    policy: Policy = Policy()
    active_max: int = 1_000
    """Actors of this kind that handle messages at once; the others wait with their mail."""
    idle_max: int = 10_000
    """Idle actors kept in memory; the longest idle one is dropped and comes back from its log."""


class Host:
    """Runs the actors of these kinds. ``run`` is a supervisor's child."""

    def __init__(
        self, bus: Bus, kinds: Mapping[str, Kind], remote: Mapping[str, Remote], ports: Mapping[str, object]
    ) -> None:
        self.bus = bus
        self.statistics: Counter[str] = Counter()
        """Counted since the start of the process: steps_run, steps_from_log, recoveries."""
        self._remote = remote
        self._ports = ports
        self._groups = {name: _Group(kind, self) for name, kind in kinds.items()}
        self._held: set[int] = set()
        self._tasks = asyncio.TaskGroup()

    async def run(self, start: Start) -> None:
        """Takes all shards over and serves their mail until cancelled."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(task_factory)
        self._tasks = asyncio.TaskGroup()
        self._held = set(range(SHARDS))
        async with self._tasks, self.bus.serve(f"rg.{self.bus.subjects.app}.qry.*.*.*", self._receive_query):
            try:
                async with self.bus.mail.serve(self._receive, self._lose):
                    start.ready()
                    await asyncio.Event().wait()
            finally:
                for group in self._groups.values():
                    group.clear()

    def start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]:
        """A task of this host, in a context of its own: what a handler's context carries is none of its business."""
        guarded = _guarded(function, *arguments)
        try:
            return Context().run(self._tasks.create_task, guarded)
        except RuntimeError:  # the host is ending and takes no more tasks
            guarded.close()
            raise

    def remote_tool(self, name: str) -> Remote | None:
        """How to call a tool that a tool agent serves; None for one that runs in the actor's own process."""
        return self._remote.get(name)

    def port(self, name: str) -> Any:
        """What the system was given under this name."""
        if name not in self._ports:
            raise KeyError(f"the system has no port {name!r}; give it one: System(ports={{{name!r}: ...}})")
        return self._ports[name]

    def count(self, what: str) -> None:
        """Counts one."""
        self.statistics[what] += 1

    def _receive(self, delivery: Delivery) -> None:
        group = self._groups.get(delivery.address.kind)
        if group is None:
            self.start(self._refuse_unknown, delivery)
        elif shard_of(delivery.address) in self._held:
            group.receive(delivery)

    def _lose(self, shard: int) -> None:
        if shard not in self._held:
            return
        if len(self._held) == SHARDS:
            _log.warning("another node of this application has taken over; this one stands by", shard=shard)
        self._held.discard(shard)
        for group in self._groups.values():
            group.clear(shard)

    def _receive_query(self, request: Request) -> None:
        if not reply_subject(request.reply):
            return
        try:
            address = check_address(Subjects.address(request.subject))
        except ValueError as error:
            _log.warning("query for no actor", error=str(error))
            return
        group = self._groups.get(address.kind)
        if group is not None and shard_of(address) in self._held:
            self.start(self._answer, group, address, request)

    async def _answer(self, group: "_Group", address: Address, request: Request) -> None:
        body, given = reply_message(await self._outcome(group, address, request.body))
        await self.bus.publish(request.reply, body, given)

    async def _outcome(self, group: "_Group", address: Address, body: bytes) -> Outcome:
        definition = group.kind.actor.__regrow__
        try:
            message = definition.decode_message(body)
        except Undecodable as error:
            return undecodable(error)
        if type(message) not in definition.queries:
            return Outcome(failure=failure(UNKNOWN, f"{address.kind} answers no query {type(message).__name__}"))
        try:
            return await group.cell(address).query(message)
        except (
            Exception
        ) as error:  # the supervised edge of the runtime: one actor's log is broken, its neighbours' are not
            _log.exception("query failed outside its handler", actor=str(address), error=str(error))
            return Outcome(failure=failure(CORRUPT, f"{address} cannot be read: {error}"))

    async def _refuse_unknown(self, delivery: Delivery) -> None:
        letter = letter_of(delivery)
        failed = failure(UNKNOWN, f"this application has no actors of kind {delivery.address.kind!r}")
        await bury(self.bus, delivery.address, letter, failed)
        if letter.reply:
            body, given = reply_message(Outcome(failure=failed))
            await self.bus.publish(letter.reply, body, given)
        await delivery.ack()


class _Group:
    """The active actors of one kind."""

    def __init__(self, kind: Kind, host: Host) -> None:
        self.kind = kind
        self.bus = host.bus
        self.policy = kind.policy
        self.start = host.start
        self.remote_tool = host.remote_tool
        self.port = host.port
        self.count = host.count
        self._cells: OrderedDict[Address, Cell] = OrderedDict()
        self._draining: dict[Address, asyncio.Task[None]] = {}
        self._active = asyncio.Semaphore(kind.active_max)

    def cell(self, address: Address) -> Cell:
        """The cell of this actor, activated where there is none."""
        cell = self._cells.get(address)
        if cell is None:
            cell = self._cells[address] = Cell(self.kind.actor, address, self)
            self._passivate()
        return cell

    def receive(self, delivery: Delivery) -> None:
        """Gives a message to its actor, which runs at once or when its kind has room."""
        cell = self.cell(delivery.address)
        cell.put(delivery)
        if cell.trouble is not None:
            self.start(cell.complain)
        elif delivery.address not in self._draining:
            self._draining[delivery.address] = self.start(self._drain, cell)

    def clear(self, shard: int | None = None) -> None:
        """Drops the actors of a shard, or all: their turns are cancelled, and whoever has the shard goes on from the log."""
        for address in [each for each in self._cells if shard is None or shard_of(each) == shard]:
            del self._cells[address]
            task = self._draining.pop(address, None)
            if task is not None:
                task.cancel()

    async def _drain(self, cell: Cell) -> None:
        try:
            async with Slot(self._active) as slot:
                await cell.drain(slot)
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
        if not cell.idle and cell.trouble is None:
            self._draining[cell.address] = self.start(self._drain, cell)

    def _mend(self, cell: Cell) -> None:
        if self._cells.get(cell.address) is cell:
            cell.forget()
            self._draining[cell.address] = self.start(self._drain, cell)

    def _passivate(self) -> None:
        excess = len(self._cells) - self.kind.idle_max - len(self._draining)
        if excess > 0:
            idle = (each for each, cell in self._cells.items() if cell.idle and each not in self._draining)
            for address in list(islice(idle, excess)):
                del self._cells[address]


async def _guarded(function: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Runs a task whose failure is nobody's but its own, lest it takes all tasks of the host with it."""
    try:
        await function(*arguments)
    except Exception as error:  # the supervised edge: what no actor is to blame for
        _log.exception("a task of the host failed", error=str(error))


def trouble(error: Exception) -> Failure:
    """What those who wait for an actor are told when it cannot go on."""
    if isinstance(error, Drift):
        return failure(DRIFT, str(error))
    if isinstance(error, BusError) and not isinstance(error, Undecodable):
        return failure(STORE, str(error))
    return failure(CORRUPT, f"{type(error).__name__}: {error}; the message stays in its mailbox")
