"""The host: all durable actors of an application that are active in this process, fed by the mailboxes of its shards."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from functools import partial
from typing import Any

import msgspec
import structlog

from regrow.actors.actor import Actor
from regrow.actors.cell import Cell, Policy
from regrow.actors.dead_letter import bury
from regrow.actors.errors import UNKNOWN, failure
from regrow.actors.lineage import task_factory
from regrow.actors.records import Outcome
from regrow.actors.tool import Remote
from regrow.actors.wire import letter_of, reply_message, undecodable
from regrow.bus import Address, Bus, Delivery, Request, Undecodable
from regrow.bus.subjects import SHARDS, Subjects, shard_of
from regrow.supervisor import Start

_log = structlog.get_logger(__name__)

BROKEN_PAUSE_S = 5.0
"""An actor whose log cannot be folded, or whose runtime failed, is tried again after this time; its mail waits."""


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

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of this host, in a context of its own: what a handler's context carries is none of its business."""
        return Context().run(self._tasks.create_task, coroutine)

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
            self.start(self._refuse_unknown(delivery))
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
        address = Subjects.address(request.subject)
        group = self._groups.get(address.kind)
        if group is not None and shard_of(address) in self._held and request.reply:
            self.start(self._answer(group, address, request))

    async def _answer(self, group: "_Group", address: Address, request: Request) -> None:
        try:
            message = group.kind.actor.__regrow__.decode_message(request.body)
            outcome = await group.cell(address).query(message)
        except Undecodable as error:
            outcome = undecodable(error)
        body, given = reply_message(outcome)
        await self.bus.publish(request.reply, body, given)

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
        if delivery.address not in self._draining:
            self._draining[delivery.address] = self.start(self._drain(cell))

    def clear(self, shard: int | None = None) -> None:
        """Drops the actors of a shard, or all: their turns are cancelled, and whoever has the shard goes on from the log."""
        for address in [each for each in self._cells if shard is None or shard_of(each) == shard]:
            del self._cells[address]
            task = self._draining.pop(address, None)
            if task is not None:
                task.cancel()

    async def _drain(self, cell: Cell) -> None:
        try:
            async with self._active:
                await cell.drain()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the supervised edge of the runtime itself: one actor fails, its neighbours do not
            _log.exception(
                "actor failed outside its handler; its mail waits", actor=str(cell.address), error=str(error)
            )
            self._replace_later(cell)
        finally:
            self._idle(cell)

    def _idle(self, cell: Cell) -> None:
        task = self._draining.get(cell.address)
        if task is not None and task is asyncio.current_task():
            del self._draining[cell.address]
        if self._cells.get(cell.address) is cell:
            self._cells.move_to_end(cell.address)
            if not cell.idle and cell.address not in self._draining and not cell.broken:
                self._draining[cell.address] = self.start(self._drain(cell))

    def _replace_later(self, cell: Cell) -> None:
        cell.broken = True
        again: Callable[[], None] = partial(self._mend, cell)
        asyncio.get_running_loop().call_later(BROKEN_PAUSE_S, again)

    def _mend(self, cell: Cell) -> None:
        cell.broken = False
        if self._cells.get(cell.address) is cell and cell.address not in self._draining:
            cell.forget()
            self._draining[cell.address] = self.start(self._drain(cell))

    def _passivate(self) -> None:
        excess = len(self._cells) - self.kind.idle_max - len(self._draining)
        if excess <= 0:
            return
        for address in [each for each, cell in self._cells.items() if cell.idle and each not in self._draining][
            :excess
        ]:
            del self._cells[address]
