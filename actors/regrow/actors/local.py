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
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import NoneType, TracebackType
from typing import Any, ClassVar, Self, cast, get_args
from uuid import UUID

from regrow.actors import clock
from regrow.actors.actor import check_on_start, defining_scope
from regrow.actors.deadlines import Deadlines
from regrow.actors.definition import Definition
from regrow.actors.errors import ActorError, ActorStopped, DefinitionError
from regrow.actors.local_cell import LocalCell, Plain
from regrow.actors.local_dead_letters import DeadLetterOffice, LocalDeadLetters
from regrow.actors.local_mailbox import Mail, Method
from regrow.actors.local_policy import LocalPolicy, Overflow
from regrow.actors.local_ref import GRACE_S, LocalRef
from regrow.actors.runners import Runners
from regrow.actors.start import Start as LifeStart
from regrow.actors.straight import plain_form
from regrow.bus import Address, check_address, check_name
from regrow.supervisor import ChildSpec, DuplicateChild, Start

MAILBOX_MAX = 1_000
"""Messages that may wait for one local actor when nothing else is said."""

_OVERFLOWS = get_args(Overflow)
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
        policy: LocalPolicy = LocalPolicy(),  # noqa: B008 - a frozen value
    ) -> LocalRef:
        """A new actor of that kind, whose mailbox holds ``mailbox_max`` messages; ``overflow`` says what happens to one more.

        Raises ``DuplicateChild`` while one of that kind and key lives.
        """
        if self._open is None:
            raise ActorError(f"the local system {self.name} does not run: spawn inside its block")
        if mailbox_max < 1:
            raise ValueError(f"mailbox_max must be 1 or more, not {mailbox_max}")
        if overflow not in _OVERFLOWS:
            raise ValueError(f"overflow is one of {', '.join(_OVERFLOWS)}, not {overflow!r}")
        address = check_address(Address(kind.__regrow__.kind, key))
        if address in self._cells:
            raise DuplicateChild(str(address))
        cell = self._cells[address] = LocalCell(kind, address, self, mailbox_max, overflow, policy)
        return LocalRef(cell, self._deadlines)

    def ref(self, kind: type[LocalActor], key: str) -> LocalRef:
        """The living actor of that kind and key. Raises ``ActorStopped`` when there is none."""
        address = Address(kind.__regrow__.kind, key)
        if address not in self._cells:
            raise ActorStopped(str(address), "no such actor lives here")
        return LocalRef(self._cells[address], self._deadlines)

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
            cell.end(f"the local system {self.name} ends")
        async with asyncio.TaskGroup() as waiting:
            for cell in cells:
                if not cell.is_gone:
                    waiting.create_task(cell.wait_gone(GRACE_S))
