"""The host: all durable actors of an application that are active in this process, fed by the mailboxes of its shards.

It brings the mail, and is one supervisor's child; each group of actors is another, started after it and stopped before it, so
that no turn runs on a shard that was let go.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import structlog

from regrow.actors.dead_letter import bury
from regrow.actors.errors import CORRUPT, UNKNOWN, failure
from regrow.actors.group import Group
from regrow.actors.intake import Intake
from regrow.actors.kind import Kind
from regrow.actors.lineage import task_factory
from regrow.actors.mailbox import Budget
from regrow.actors.memory import used_share
from regrow.actors.quarantine import Quarantine
from regrow.actors.records import Letter, Outcome
from regrow.actors.roster import Roster
from regrow.actors.shared import PORT as SHARED
from regrow.actors.shared import SharedResults
from regrow.actors.tasks import Tasks
from regrow.actors.tool import Remote
from regrow.actors.wire import letter_of, reply_message, reply_subject, undecodable
from regrow.bus import Address, Bus, Delivery, Request, Undecodable, check_address
from regrow.bus.port import Holding
from regrow.bus.subjects import SHARDS, Subjects, shard_of
from regrow.supervisor import ChildSpec, Start
from regrow.supervisor.watchdog import Blocked, Unblocked

_log = structlog.get_logger(__name__)

TIDY_S = 1.0
"""How often idle actors are looked for."""
MEMORY_SHARE_MAX = 0.75
"""Of the memory that the process may use; above it half of the idle actors are dropped each time they are looked for."""


class Host:
    """Serves the actors of these kinds. ``run`` is a supervisor's child, and so are its ``children``."""

    def __init__(
        self, bus: Bus, kinds: Mapping[str, Kind], remote: Mapping[str, Remote], ports: Mapping[str, object]
    ) -> None:
        self.bus = bus
        self.statistics: Counter[str] = Counter()
        """Counted since the start of the process: steps_run, steps_from_log, recoveries."""
        self.budget = Budget()
        self.intake = Intake()
        self.quarantine = Quarantine()
        self._remote = remote
        self._ports = ports
        self._shared = SharedResults(bus.cache, self.count)
        self._groups = {name: Roster(kind, self) for name, kind in kinds.items()}
        self._held: set[int] = set()
        self._holding: Holding | None = None
        self._tasks = Tasks()
        self._loop: asyncio.AbstractEventLoop | None = None

    def children(self) -> dict[str, ChildSpec]:
        """The groups as a supervisor's children, by the name of their kind; they come after ``run``, which brings the mail."""
        return {
            name: ChildSpec(id=f"actors.{name}", run=group.run, type="supervisor")
            for name, group in self._groups.items()
        }

    async def run(self, start: Start) -> None:
        """Takes all shards over and serves their mail until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(task_factory)
        self._tasks = Tasks()
        self._held = set(range(SHARDS))
        async with self._tasks, self.bus.serve(f"rg.{self.bus.subjects.app}.qry.*.*.*", self._receive_query):
            try:
                async with self.bus.mail.serve(self._receive, self._lose) as self._holding:
                    for group in self._groups.values():
                        group.activate()
                    start.ready()
                    await self._tidy()
            finally:
                self._held.clear()
                for group in self._groups.values():
                    group.clear()

    def ask(self, address: Address, letter: Letter) -> asyncio.Future[Outcome | None] | None:
        """The outcome of an ask that goes straight to an actor of this process; None where the actor is not here.

        The future's None says the same, found out later. Raises ``MailboxFull``.
        """
        group = self._groups.get(address.kind)
        if group is None or shard_of(address) not in self._held:
            return None
        return group.ask(address, letter)

    @property
    def rosters(self) -> Mapping[str, Roster]:
        """The active actors by kind, for whoever looks at them."""
        return self._groups

    @property
    def held(self) -> AbstractSet[int]:
        """The shards whose mail this node serves."""
        return self._held

    def in_seq(self, address: Address) -> int:
        """How far an actor has taken its outside mailbox, as far as it is known here."""
        group = self._groups.get(address.kind)
        return group.in_seq(address) if group is not None else 0

    def start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]:
        """A task of this host. Raises RuntimeError when it is ending."""
        return self._tasks.start(function, *arguments)

    def holds(self, address: Address) -> bool:
        """Whether the mail of this actor comes here."""
        return shard_of(address) in self._held

    def blocked(self, report: Blocked | Unblocked) -> None:
        """The event loop is blocked: names the actor that does it, if one does. Called in the watchdog's thread."""
        if self._loop is None or not isinstance(report, Blocked):
            return
        task = asyncio.current_task(self._loop)
        if task is None or task.get_name() != report.task:
            return  # it has gone on meanwhile
        for group in self._groups.values():
            if (address := group.actor_of(task)) is not None:
                _log.warning(
                    "actor_blocks_event_loop",
                    actor=str(address),
                    at=report.at,
                    advice="run blocking code as a plain def tool, which gets a thread, or in a process",
                )

    def remote_tool(self, name: str) -> Remote | None:
        """How to call a tool that a tool agent serves; None for one that runs in the actor's own process."""
        return self._remote.get(name)

    def port(self, name: str) -> Any:
        """What the system was given under this name, or has of its own."""
        if name == SHARED:
            return self._shared
        if name not in self._ports:
            raise KeyError(f"the system has no port {name!r}; give it one: System(ports={{{name!r}: ...}})")
        return self._ports[name]

    def count(self, what: str) -> None:
        """Counts one."""
        self.statistics[what] += 1

    async def _tidy(self) -> None:
        """Lets idle actors go, until cancelled."""
        while True:
            await asyncio.sleep(TIDY_S)
            share = 0.5 if used_share() > MEMORY_SHARE_MAX else 0.0
            for group in self._groups.values():
                group.judge()
                group.passivate(share)

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

    async def _answer(self, group: Group, address: Address, request: Request) -> None:
        """Answers while this node is known to hold the shard; whoever asks asks again, and finds who holds it now."""
        assert self._holding is not None
        if not await self._holding.holds(shard_of(address)):
            return
        body, given = reply_message(await self._outcome(group, address, request.body))
        await self.bus.publish(request.reply, body, given)

    async def _outcome(self, group: Group, address: Address, body: bytes) -> Outcome:
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
