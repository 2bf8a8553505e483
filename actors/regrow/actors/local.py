"""Local actors: the programming model of ``Actor`` without a log, at the speed of memory, supervised all the same.

    class Counter(LocalActor):
        total: int = 0

        @command
        async def add(self, msg: Add) -> int:
            self.total += msg.amount
            return self.total

    async with LocalSystem("demo") as system:
        counter = system.spawn(Counter, key="a")
        await counter.ask(Add(amount=2))

Messages and replies are handed over as they are, so they should not be changed afterwards. Everything belongs to one event
loop. No NATS is needed; beside durable actors a local system is a child like any other: ``System("x", children=[local])``.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import NoneType, TracebackType
from typing import Any, ClassVar, NoReturn, Self, cast
from uuid import UUID

from regrow.actors import clock
from regrow.actors.actor import check_on_start, defining_scope, due_ms
from regrow.actors.deadlines import Deadlines
from regrow.actors.definition import Definition
from regrow.actors.errors import ActorError, ActorStopped, DefinitionError
from regrow.actors.local_cell import LocalCell
from regrow.actors.local_dead_letters import DeadLetterOffice, LocalDeadLetters
from regrow.actors.local_life import LocalLife
from regrow.actors.local_mailbox import Mail, Method, Plain
from regrow.actors.local_policy import MAILBOX_MAX, STASH_MAX, LocalLimits, LocalPolicy, Overflow
from regrow.actors.local_ref import GRACE_S, LocalRef
from regrow.actors.local_timers import check_period
from regrow.actors.message import Message
from regrow.actors.runners import Runners
from regrow.actors.start import Start as LifeStart
from regrow.actors.straight import plain_form
from regrow.bus import Address, MailboxFull, check_address, check_name
from regrow.supervisor import ChildSpec, DuplicateChild, Groups, Shutdown, Start

_UNCHANGING = (int, float, str, bytes, NoneType)


class LocalActor:
    """An actor in memory: typed fields are its state, ``@command`` and ``@query`` methods use and assign them freely.

    Each field needs a default: an incarnation begins with the defaults, the first one and every one after a failure.
    Messages are handled one at a time in the order in which they came, queries too. The class is checked when it is made;
    ``DefinitionError`` says what is wrong.
    """

    __regrow__: ClassVar[Definition]
    __methods__: ClassVar[dict[type, Method]]
    __plain__: ClassVar[dict[type, Plain]]
    __has_hook__: ClassVar[bool]
    __own__: ClassVar[tuple[str, ...]]
    _cell: LocalCell | None = None

    def __init_subclass__(cls, *, kind: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        definition = cls.__regrow__ = Definition(cls, kind, defining_scope())
        handlers = (*definition.commands.values(), *definition.queries.values())
        cls.__methods__ = {each.accepts: each.method for each in handlers}
        forms = {each.accepts: plain_form(each.method) for each in handlers if each.straight}
        cls.__plain__ = {accepts: plain for accepts, plain in forms.items() if plain is not None}
        check_on_start(cls)
        cls.__has_hook__ = cls.on_start is not LocalActor.on_start
        # A default that cannot change is found in the class, until the field is assigned.
        cls.__own__ = tuple(name for name in definition.fields if not isinstance(getattr(cls, name), _UNCHANGING))
        for handler in definition.events.values():
            raise DefinitionError(
                f"{cls.__name__}.{handler.name} is an @event, but a LocalActor has no log: assign its fields in commands"
            )

    async def on_start(self, start: LifeStart) -> None:
        """Called, where a class defines it, when an incarnation begins, before its first message; ``start`` says why it lives.

        It may assign fields, which is where an incarnation gets back what the one before it has lost. When it raises, the
        incarnation is over like one whose handler raised.
        """

    @property
    def key(self) -> str:
        """This actor's key."""
        return self._running().address.key

    @property
    def system(self) -> "LocalSystem":
        """The system that it lives in, where it finds and spawns others."""
        return cast(LocalSystem, self._running().system)

    def stash(self, message: Message[Any]) -> NoReturn:
        """Puts the message that is being handled aside, with whoever asked, and ends its handler; ``unstash_all`` brings it back.

        A failure of the actor brings all back too, for the next incarnation. When the actor is stopped, whoever asked gets
        ``ActorStopped``, and what was told becomes dead letters. Raises ``StashFull``, which is the reply where a handler lets it
        through, or else makes a dead letter of the message; the actor goes on.
        """
        self._life("stash").stash(message)

    def unstash_all(self) -> None:
        """Puts all that was put aside in front of the mail, in the order in which it was put aside; the mailbox may be full."""
        self._life("unstash_all").unstash_all()

    def become(self, behaviour: "type[LocalActor]") -> None:
        """Handles with the handlers of that class from the next message on; the fields stay.

        It is the class that was spawned, or one below it that handles the same messages and declares no fields: anything else
        is a ``DefinitionError``. An incarnation begins as what was spawned. Takes longer the more mail waits, about 3 us for
        1,000 messages.
        """
        self._life("become").become(behaviour)

    def set_timer(
        self,
        name: str,
        message: Message[Any],
        *,
        after_s: float | None = None,
        at: datetime | None = None,
        every_s: float | None = None,
    ) -> None:
        """This actor gets the message at that time, or ``after_s`` seconds from now; at once when it is past.

        With ``every_s`` it comes again so many seconds after it was last taken out of the mailbox, and for the first time after
        as many when nothing else is said. A timer of the same name is replaced; a message of it that waits already is not
        handled. A failure and a stop cancel all. In a full mailbox ``overflow`` decides; where that is ``fail`` or ``wait``, the
        message is a dead letter. ``at`` needs a time zone, and is not moved when the clock is set. The reply goes nowhere.
        """
        life = self._life("set_timer")
        check_period(every_s)
        first_s = every_s if after_s is None and at is None else after_s
        due_s = due_ms(first_s, at) / 1_000
        life.set_timer(name, message, first_s if first_s is not None else due_s - time.time(), every_s)

    def cancel_timer(self, name: str) -> None:
        """The timer of this name is over, also when its message waits already; without effect when there is none."""
        self._life("cancel_timer").cancel_timer(name)

    async def now(self) -> datetime:
        """The time in UTC."""
        return await clock.now()

    async def random(self) -> float:
        """A random number from 0.0 up to, not including, 1.0."""
        return await clock.draw()

    async def uuid(self) -> UUID:
        """A random UUID (version 4)."""
        return await clock.new_uuid()

    async def sleep(self, duration: float | timedelta) -> None:
        """Sleeps so many seconds; no other message is handled meanwhile."""
        await asyncio.sleep(clock.seconds_of(duration))

    @classmethod
    def __fresh__(cls, cell: LocalCell) -> Self:
        """An incarnation with the defaults of its fields."""
        actor = object.__new__(cls)
        actor._cell = cell
        if cls.__own__:
            state = cls.__regrow__.state_type()
            for name in cls.__own__:
                setattr(actor, name, getattr(state, name))
        return actor

    def _running(self) -> LocalCell:
        if self._cell is None:
            raise ActorError(f"{type(self).__name__} does not run: spawn it in a LocalSystem")
        return self._cell

    def _life(self, what: str) -> LocalLife:
        cell = self._running()
        if not cell.is_living(self):
            raise ActorError(f"{what} is for the incarnation that lives: this one of {cell.address} has failed")
        return cell.life


class LocalSystem:
    """Local actors that live as long as the block does; leaving it stops all of them at once.

    ``draw`` gives the backoff's jitter, a number in [0, 1). A system that was left may be entered again and begins empty.
    """

    runners: Runners

    def __init__(self, name: str, *, draw: Callable[[], float] = random.random) -> None:
        self.name = check_name("the system's name", name)
        self.draw = draw
        self.tools: tuple[()] = ()
        self.dead = DeadLetterOffice()
        self.groups = Groups()
        """Who is in which group: ``system.groups.join("workers", ref)``. Whoever is stopped leaves; empty when the system is entered."""
        self.spare: list[Mail] = []
        """Empty deques, for the next mailbox that needs one."""
        self._cells: dict[Address, LocalCell] = {}
        self._open: AsyncExitStack | None = None

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise ActorError(f"the local system {self.name} is running already")
        async with AsyncExitStack() as stack:
            self.runners = Runners(await stack.enter_async_context(asyncio.TaskGroup()))
            self._deadlines = Deadlines()
            self.dead = DeadLetterOffice()
            self.groups = Groups()
            stack.callback(self.dead.close)
            stack.callback(self._deadlines.close)
            stack.callback(self.runners.close)
            stack.push_async_callback(self._stop_all)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._open is not None
        stack, self._open = self._open, None
        await stack.__aexit__(kind, error, trace)

    def spawn(
        self,
        kind: type[LocalActor],
        key: str,
        *,
        mailbox_max: int = MAILBOX_MAX,
        overflow: Overflow = "fail",
        stash_max: int = STASH_MAX,
        policy: LocalPolicy = LocalPolicy(),  # noqa: B008 - a frozen value
    ) -> LocalRef:
        """A new actor of that kind, whose mailbox holds ``mailbox_max`` messages; ``overflow`` says what happens to one more.

        It may put ``stash_max`` messages aside. Raises ``DuplicateChild`` while one of that kind and key lives.
        """
        if self._open is None:
            raise ActorError(f"the local system {self.name} does not run: spawn inside its block")
        limits = LocalLimits(mailbox_max=mailbox_max, overflow=overflow, stash_max=stash_max)
        address = check_address(Address(kind.__regrow__.kind, key))
        if address in self._cells:
            raise DuplicateChild(str(address))
        cell = self._cells[address] = LocalCell(kind, address, self, limits, policy)
        return LocalRef(cell, self._deadlines)

    def ref(self, kind: type[LocalActor], key: str) -> LocalRef:
        """The living actor of that kind and key. Raises ``ActorStopped`` when there is none."""
        address = Address(kind.__regrow__.kind, key)
        if address not in self._cells:
            raise ActorStopped(str(address), "no such actor lives here")
        return LocalRef(self._cells[address], self._deadlines)

    def tell_all(self, group: str, message: Message[Any]) -> int:
        """Tells it every local actor of a group, as often as each has joined; how many have taken it.

        For one whose mailbox is full, or who is being stopped, it is a dead letter, and the others get it. Raises
        ``DefinitionError`` at the first that does not handle it.
        """
        told = 0
        for member in self.groups.members(group):
            if isinstance(member, LocalRef):
                try:
                    member.tell(message)
                    told += 1
                except (MailboxFull, ActorStopped):
                    self.dead.add(member.address, message, "group")
        return told

    def dead_letters(self) -> LocalDeadLetters:
        """What reached nobody since the system was entered: how many by reason, and the latest by name."""
        return self.dead.seen()

    async def run(self, start: Start) -> None:
        """Runs until cancelled; a supervisor's child."""
        async with self:
            start.ready()
            await asyncio.Event().wait()

    def child_spec(self, _node: object = None) -> ChildSpec:
        """This system as a child of a supervisor, or among the ``children`` of a ``System``."""
        return ChildSpec(id=f"local {self.name}", run=self.run, shutdown=GRACE_S + 1.0)

    def forget(self, address: Address) -> None:
        """Takes a stopped actor off the list; cells call it."""
        del self._cells[address]

    async def _stop_all(self) -> None:
        cells = list(self._cells.values())
        for cell in cells:
            cell.end(f"the local system {self.name} ends", Shutdown())
        async with asyncio.TaskGroup() as waiting:
            for cell in cells:
                if not cell.is_gone:
                    waiting.create_task(cell.wait_gone(GRACE_S))
