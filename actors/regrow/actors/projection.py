"""Projections: what is made of the events of all actors of a kind, in order, from a position that survives restarts.

    class Totals(Projection, of=Purse):
        @event
        async def spent(self, fact: Spent, at: Recorded) -> None: ...

    System("shop", actors=[Kind(actor=Purse, policy=Policy(history="keep"))], children=[Totals()])

The handlers of one projection run one at a time. Where its position lies decides what a crash repeats: by default in NATS, beside
the logs, so that the events of the last batch may be handled again (at least once; ``at.id`` tells them apart). A projection that
keeps the position itself, in one transaction with what it makes of the events, handles each exactly once: see ``batch``.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, ClassVar, Literal, get_args, get_type_hints

import msgspec
import structlog

from regrow.actors.actor import Actor, defining_scope
from regrow.actors.definition import Definition, definition_of, snake_case
from regrow.actors.errors import ActorError, DefinitionError
from regrow.actors.fold import Fold
from regrow.actors.handler import role_of
from regrow.actors.happening import Happening, Recorded
from regrow.actors.message import Event
from regrow.actors.projecting import Positions, Runner
from regrow.actors.records import Snapshot, Tombstone
from regrow.actors.system import Node
from regrow.actors.tool import Tool
from regrow.bus import Address, Bus, BusError, check_name, decode, encode
from regrow.supervisor import Backoff, ChildSpec, Intensity, Supervisor

_log = structlog.get_logger(__name__)

POSITIONS = "rg_projection"
"""The kind under which the positions of projections are kept beside the logs."""
OnFailure = Literal["retry", "skip"]
_FOR_EVER = Intensity(limit=1_000_000, per_s=0.001)  # it waits between two attempts, and nobody else dies of them

Handle = Callable[[Any, Any, Recorded], Any]


class HistoryIncomplete(ActorError):
    """What an actor decided before its history was kept is not in its log any more."""

    def __init__(self, at: Recorded) -> None:
        super().__init__(
            f"the log of {at.kind}/{at.key} begins with a snapshot: the events before it are gone, for they were recorded while "
            'its kind was not history="keep"; override rolled_up() to begin with the state that the snapshot holds'
        )
        self.at = at


class Projected(msgspec.Struct, frozen=True):
    """The compiled form of a projection class."""

    of: type[Actor]
    name: str
    handlers: Mapping[type[Event], Handle]
    skip_after: int | None
    backoff: Backoff


class Projection:
    """Takes the events of every actor of a kind, in the order of each actor's log; actors of different streams interleave.

    ``class Totals(Projection, of=Purse, name="totals")``: the kind must be ``history="keep"``. ``@event`` methods are async and
    take the event and where it was ``Recorded``; an event of the actor without a method here is passed over. Only what a
    turn committed is seen, in today's form where it has upcasters. A class without ``of`` is a base for others.

    When a handler raises, the batch is given up, and after ``backoff`` the projection goes on from its position, for ever and
    without disturbing anybody else; the events behind it wait. ``on_failure="skip"``: after ``attempts_max`` attempts in one
    process an event is passed over, see ``skipped``.

    An instance belongs to one running system. Each node that hosts the system runs its own.
    """

    __projected__: ClassVar[Projected | None] = None
    _runner: Runner | None = None
    _bus: Bus | None = None

    def __init_subclass__(
        cls,
        *,
        of: type[Actor] | None = None,
        name: str | None = None,
        on_failure: OnFailure = "retry",
        attempts_max: int = 5,
        backoff: Backoff = Backoff(),  # noqa: B008 - a frozen value
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        if cls.__projected__ is not None:
            raise DefinitionError(f"{cls.__name__} derives from a projection that is whole; derive it from Projection")
        if of is not None:
            called = name if name is not None else snake_case(cls.__name__)
            handlers = _handlers(cls, _events_of(cls, of), defining_scope())
            skip_after = _skip_after(cls, on_failure, attempts_max)
            cls.__projected__ = Projected(of, _checked_name(cls, called), handlers, skip_after, backoff)

    # What a subclass may say

    async def load(self) -> Positions:
        """The position that was saved last; empty before the first. Called at every start, and first in every batch."""
        saved = await self._hosted().log.saved(self._address)
        return {} if saved is None else decode(saved.data, dict[int, int], f"position of {self.name}")

    async def save(self, positions: Positions) -> None:
        """Keeps the position: the last handled sequence of every stream. Called last in every batch."""
        covers = sum(positions.values())  # rises with each of them
        data = encode({str(stream): sequence for stream, sequence in positions.items()})
        await self._hosted().log.save(self._address, data, covers)

    def batch(self) -> AbstractAsyncContextManager[object]:
        """What ``load``, the handlers of a batch and ``save`` run in: a transaction.

        It is given up when anything in it raises. When it locks the position before ``load`` reads it (``BEGIN IMMEDIATE``,
        ``SELECT … FOR UPDATE``), each event counts exactly once however many processes run the projection.
        """
        return nullcontext()

    async def deleted(self, at: Recorded) -> None:
        """The actor was deleted. Its events are gone from the log too: those not seen by now will not be."""

    async def rolled_up(self, actor: Any, at: Recorded) -> None:
        """The events before this place are gone, and all that is left of them is the state of ``actor``.

        Happens where logs were written before their kind was ``history="keep"``. Raises ``HistoryIncomplete``.
        """
        raise HistoryIncomplete(at)

    async def skipped(self, at: Recorded, error: str) -> None:
        """An event is passed over for good (``on_failure="skip"``), in the same batch as its neighbours. Logs it."""
        _log.error("projection skips an event", projection=self.name, at=str(at), error=error)

    async def forget(self) -> None:
        """Removes the position, and in a store of its own what was made of the events: ``load`` must give nothing after it."""
        await self._hosted().log.forget(self._address)

    # What it offers

    @property
    def name(self) -> str:
        """Names its position: under another name a projection begins anew."""
        return self._projected().name

    @property
    def kind(self) -> str:
        """The kind of the actors whose events it takes."""
        return self._projected().of.__regrow__.kind

    @property
    def skip_after(self) -> int | None:
        """Attempts after which an event is passed over; None: never."""
        return self._projected().skip_after

    @property
    def tools(self) -> Sequence[Tool[..., Any]]:
        """None: a projection serves no tools."""
        return ()

    async def reset(self) -> None:
        """Begins again with the first event: ``forget``, between two batches. Raises ``ActorError`` unless it is hosted."""
        self._hosted()
        assert self._runner is not None
        await self._runner.reset()

    def child_spec(self, node: Node) -> ChildSpec:
        """This projection as a supervisor's child, which no failure of it ends.

        Raises ``DefinitionError`` when the system does not keep the history of its actors.
        """
        projected = self._projected()
        kind = node.system.kinds.get(self.kind)
        if kind is None or kind.actor is not projected.of:
            raise DefinitionError(
                f"{type(self).__name__} is a projection of {projected.of.__name__}, which this system does not have: "
                f"add it to System(actors=…)"
            )
        if kind.policy.history != "keep":
            raise DefinitionError(
                f"{type(self).__name__} needs the whole history of {projected.of.__name__}: "
                f'say Kind(actor={projected.of.__name__}, policy=Policy(history="keep"))'
            )
        self._bus = node.bus
        self._runner = Runner(self, node.bus.log)
        child = ChildSpec(id=self.name, run=self._runner.run, backoff=projected.backoff)
        return Supervisor(f"projection.{self.name}", children=[child], intensity=_FOR_EVER).child_spec()

    async def take(self, what: Happening, at: Recorded) -> None:
        """Hands what happened to its handler. Raises what that raises, and ``Undecodable``."""
        match what:
            case Tombstone():
                await self.deleted(at)
            case Snapshot():
                folded = Fold(self._projected().of, at.key)
                folded.advance((what,), at.sequence)
                await self.rolled_up(folded.actor, at)
            case BusError():
                raise what
            case _:
                projected = self._projected()
                fact = projected.of.__regrow__.decode_event(what)
                handle = projected.handlers.get(type(fact))
                if handle is not None:
                    await handle(self, fact, at)

    @property
    def _address(self) -> Address:
        return Address(POSITIONS, f"{self.kind}.{self.name}")

    def _projected(self) -> Projected:
        if self.__projected__ is None:
            raise DefinitionError(
                f"{type(self).__name__} must say of which actors: class X({type(self).__name__}, of=…)"
            )
        return self.__projected__

    def _hosted(self) -> Bus:
        if self._bus is None:
            raise ActorError(f"the projection {self.name} works only in a system that is hosted")
        return self._bus


_OWN = frozenset(vars(Projection))


def _events_of(cls: type, of: Any) -> Definition:
    definition = definition_of(of)
    if definition.persist == "fields":
        raise DefinitionError(
            f'{cls.__name__}: {definition.name} is persist="fields" and decides no events; there is nothing to project'
        )
    return definition


def _checked_name(cls: type, name: str) -> str:
    try:
        return check_name("the projection's name", name)
    except ValueError as error:
        raise DefinitionError(f"{cls.__name__}: {error}") from None


def _skip_after(cls: type, on_failure: str, attempts_max: int) -> int | None:
    if on_failure not in get_args(OnFailure):
        raise DefinitionError(f'{cls.__name__}: on_failure is "retry" or "skip", not {on_failure!r}')
    if attempts_max < 1:
        raise DefinitionError(f"{cls.__name__}: attempts_max must be 1 or more, not {attempts_max}")
    return attempts_max if on_failure == "skip" else None


def _handlers(cls: type, definition: Definition, namespace: Mapping[str, Any]) -> dict[type[Event], Handle]:
    found: dict[type[Event], Handle] = {}
    names: dict[type[Event], str] = {}
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        role = role_of(method)
        if role is None:
            continue
        accepts = _accepted(f"{cls.__name__}.{name}", name, method, role, namespace)
        if accepts not in definition.events:
            raise DefinitionError(
                f"{cls.__name__}.{name} takes {accepts.__name__}, for which {definition.name} has no @event method"
            )
        if accepts in found:
            raise DefinitionError(
                f"{cls.__name__}: both {names[accepts]} and {name} handle {accepts.__name__}; keep one"
            )
        found[accepts], names[accepts] = method, name
    return found


def _accepted(where: str, name: str, method: Handle, role: str, namespace: Mapping[str, Any]) -> type[Event]:
    if role != "event":
        raise DefinitionError(f"{where} is a @{role}: a projection has only @event methods")
    if name in _OWN:
        raise DefinitionError(f"{where} has the name of a method of every projection; give the handler another one")
    if not inspect.iscoroutinefunction(method):
        raise DefinitionError(f"{where} is an @event of a projection: make it async def")
    try:
        hints = get_type_hints(method, localns=dict(namespace))
    except NameError as error:
        raise DefinitionError(
            f"{where}: the annotation names {error.name!r}, which is not defined above the class"
        ) from None
    taken = [hints.get(each) for each in list(inspect.signature(method).parameters)[1:]]
    accepts = taken[0] if len(taken) == 2 else None
    if not (isinstance(accepts, type) and issubclass(accepts, Event) and taken[1] is Recorded):
        raise DefinitionError(f"{where} must take self, one annotated Event, and at: Recorded")
    if hints.get("return") not in (None, type(None)):
        raise DefinitionError(f"{where} returns something, which nobody would see; annotate -> None")
    return accepts
