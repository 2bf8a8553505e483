"""The class that users derive their actors from."""

import inspect
import time
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import UUID

import msgspec

from regrow.actors import clock
from regrow.actors.definition import Definition, Persist
from regrow.actors.errors import ActorError, DefinitionError, StateChangedOutsideEvent
from regrow.actors.fields import apply_changes, check_assignment
from regrow.actors.message import Event, Message
from regrow.actors.ref import Ref
from regrow.actors.start import Start, Starting
from regrow.bus import Address

A = TypeVar("A", bound="Actor")
T = TypeVar("T")


class Scope(Protocol):
    """What a running handler may do; given to the actor by whoever runs it."""

    address: Address

    def emit(self, event: Event) -> None: ...
    def send(self, to: Address, message: Message[Any]) -> None: ...
    def set_timer(self, name: str, message: Message[Any], at_ms: int) -> None: ...
    def cancel_timer(self, name: str) -> None: ...
    def ref(self, kind: "type[Actor]", key: str) -> Ref: ...
    def port(self, name: str) -> Any: ...
    async def sleep(self, seconds: float) -> None: ...
    async def checkpoint(self, state: object) -> None: ...
    def checkpointed(self, kind: type[T]) -> T | None: ...


class Actor:
    """A durable actor: typed fields are its state, ``@event`` methods change it, ``@command`` methods decide.

    ``class Counter(Actor, kind="counter")``: the kind is its name on the bus, by default the snake_case of the class name.
    ``version=2``: its state is no longer what version 1 was, and ``@upcast(Counter, 1)`` reads the older one. ``persist="fields"``:
    commands assign fields, and what a turn changed is recorded, without events; a class below inherits that.
    One instance lives per key, activated by its first message and rebuilt from its log after any crash. The class is checked
    when it is made; ``DefinitionError`` says what is wrong.
    """

    __regrow__: ClassVar[Definition]
    _key: str = ""
    _scope: Scope | None = None
    _folding: bool = False

    def __init_subclass__(
        cls, *, kind: str | None = None, version: int = 1, persist: Persist | None = None, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        above: Definition | None = getattr(cls, "__regrow__", None)
        kept = persist if persist is not None else above.persist if above is not None else "events"
        cls.__regrow__ = Definition(cls, kind, defining_scope(), version=version, persist=kept)
        cls.__regrow__.check_state()
        check_on_start(cls)

    async def on_start(self, start: Start) -> None:
        """Called, where a class defines it, when the actor comes to life: in a process before its first turn, and after a
        death before its next attempt or turn. ``start`` says why it lives once more.

        It reads state and ports, and runs at least once for each life; what it would decide belongs in a command, so ``emit``,
        ``send``, timers, ``ref`` and steps raise ``ActorError``, and fields cannot be assigned. A tool that it calls is just
        the function. When it raises, or takes longer than the policy's ``recovery_timeout_s``, the actor cannot go on for
        ``mend_after_s``, and its mail waits.
        """

    @property
    def key(self) -> str:
        """This actor's key, in every handler."""
        if not self._key:
            raise ActorError(f"{type(self).__name__} has a key once it runs")
        return self._key

    def emit(self, event: Event) -> None:
        """Decides an event: applied to the state at once, durable when the turn commits, gone when the turn fails."""
        if self.__regrow__.persist == "fields":
            raise ActorError(f'{type(self).__name__} is persist="fields" and emits nothing: assign its fields')
        self._running("emit").emit(event)

    def send(self, to: Ref, message: Message[Any]) -> None:
        """Sends a message when the turn commits, never before; it arrives once, in order per receiver."""
        self._running("send").send(to.address, message)

    def set_timer(
        self, name: str, message: Message[Any], *, after_s: float | None = None, at: datetime | None = None
    ) -> None:
        """Decides that this actor gets the message at that time, or ``after_s`` seconds from now; at once when it is past.

        Durable when the turn commits: it survives restarts, holds no process, and is handled once. A timer of the same name is
        replaced. ``at`` needs a time zone. The reply goes nowhere.
        """
        self._running("set_timer").set_timer(name, message, due_ms(after_s, at))

    def cancel_timer(self, name: str) -> None:
        """Decides that the timer of this name is over; without effect when there is none."""
        self._running("cancel_timer").cancel_timer(name)

    def ref(self, kind: "type[Actor]", key: str) -> Ref:
        """A reference to another durable actor of this application. Its ``ask`` is a step of this handler."""
        return self._running("ref").ref(kind, key)

    def port(self, name: str) -> Any:
        """What the system was given under this name: ``System(ports={"model": …})``. Raises KeyError with the names it has."""
        return self._running("port").port(name)

    async def now(self) -> datetime:
        """The time in UTC, as a step: a replay sees the same."""
        self._running("now")
        return await clock.now()

    async def random(self) -> float:
        """A random number from 0.0 up to, not including, 1.0, as a step."""
        self._running("random")
        return await clock.draw()

    async def uuid(self) -> UUID:
        """A random UUID (version 4), as a step."""
        self._running("uuid")
        return await clock.new_uuid()

    async def sleep(self, duration: float | timedelta) -> None:
        """Sleeps so many seconds, as a step: after a crash only the rest of more than a second, by the wall clock.

        A handler that does nothing else for long is unloaded meanwhile, and costs no memory however long it sleeps.
        """
        await self._running("sleep").sleep(clock.seconds_of(duration))

    async def checkpoint(self, state: object) -> None:
        """Records what this handler needs to go on, JSON, and forgets the steps that it has taken: for one with very many.

        From then on a replay begins at the top of the handler with ``checkpointed`` not None, and no step before is known:

            at = self.checkpointed(Progress) or Progress(0)
            for number in range(at.done, msg.pages):
                await fetch(number)
                if (number + 1) % 100 == 0:
                    await self.checkpoint(Progress(number + 1))

        Only the handler's own task may, while no other task of it runs and before the turn has emitted, sent or assigned
        anything (a replay would not do it again); else ``ActorError`` says which. Another attempt at a failed turn goes on from it.
        """
        await self._running("checkpoint").checkpoint(state)

    def checkpointed(self, kind: type[T]) -> T | None:
        """The state of this turn's last ``checkpoint``, read as that type; None before the first one."""
        return self._running("checkpointed").checkpointed(kind)

    def _running(self, what: str) -> Scope:
        if self._scope is None:
            raise ActorError(f"{type(self).__name__}.{what} works only inside a @command of a running actor")
        return self._scope

    def __setattr__(self, name: str, value: object) -> None:
        if self.__regrow__.persist == "fields":
            running = self._scope is not None and not isinstance(self._scope, Starting)
            check_assignment(self, name, running=running)
        elif not self._folding:
            raise StateChangedOutsideEvent(type(self).__name__, name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise ActorError(f"{type(self).__name__}.{name} cannot be deleted: a field has a value, be it None")


def due_ms(after_s: float | None, at: datetime | None) -> int:
    """When a timer is due, in ms since 1970. Raises ``ValueError`` unless exactly one is given, a time with its zone."""
    if (after_s is None) == (at is None):
        raise ValueError("a timer is due either after_s seconds from now or at a time: give one of the two")
    if at is None:
        return int((time.time() + (after_s or 0.0)) * 1000)
    if at.tzinfo is None:
        raise ValueError(f"the time {at} of a timer has no time zone: write datetime(..., tzinfo=UTC)")
    return int(at.timestamp() * 1000)


def check_on_start(cls: type) -> None:
    """Raises ``DefinitionError`` for an ``on_start`` that could not be awaited."""
    if not inspect.iscoroutinefunction(getattr(cls, "on_start", None)):
        raise DefinitionError(f"{cls.__name__}.on_start must be async def on_start(self, start: Start) -> None")


def defining_scope() -> dict[str, Any]:
    """The names where the class statement stands: annotations of a class made inside a function resolve there."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_name in ("defining_scope", "__init_subclass__"):
        frame = frame.f_back
    return dict(frame.f_locals) if frame is not None else {}


def incarnate(cls: type[A], state: msgspec.Struct, key: str, scope: Scope | None = None) -> A:
    """A fresh instance of an actor class that holds this state."""
    actor = cls.__new__(cls)
    vars(actor).update({name: getattr(state, name) for name in cls.__regrow__.fields}, _key=key, _scope=scope)
    return actor


def state_of(actor: Actor) -> msgspec.Struct:
    """The state that an instance holds."""
    definition = actor.__regrow__
    held = vars(actor)
    return definition.state_type(**{name: held[name] for name in definition.fields})


def apply(actor: Actor, fact: Event) -> None:
    """Changes the state by one event. Raises ``ActorError`` when the class has no ``@event`` method for it.

    The method finds what it finds at a recovery: the state, the event and the key, never the running handler.
    """
    handler = actor.__regrow__.events.get(type(fact))
    if handler is None:
        raise ActorError(f"{type(actor).__name__} has no @event method for {type(fact).__name__}")
    held = vars(actor)
    scope = held["_scope"]
    held.update(_folding=True, _scope=None)
    try:
        handler.method(actor, fact)
    finally:
        held.update(_folding=False, _scope=scope)


def apply_recorded(actor: Actor, data: msgspec.Raw) -> None:
    """Changes the state by one event as it lies in the log, in whatever form. Raises ``Undecodable`` for an unknown one."""
    definition = actor.__regrow__
    if definition.persist == "fields":
        apply_changes(actor, data)
    else:
        apply(actor, definition.decode_event(data))
