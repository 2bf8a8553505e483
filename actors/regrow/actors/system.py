"""A system: the actors and other children of one application, said once; hosted here, or reached from anywhere."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from pathlib import Path
from typing import Any, Protocol, Self, get_args

import msgspec

from regrow.actors.actor import Actor
from regrow.actors.administration import RUNTIME
from regrow.actors.client import Client
from regrow.actors.definition import definition_of
from regrow.actors.errors import DefinitionError
from regrow.actors.gateway import Gateway
from regrow.actors.host import Host
from regrow.actors.introspection import Introspection
from regrow.actors.kind import Kind
from regrow.actors.policy import Policy
from regrow.actors.ref import Ref
from regrow.actors.remote import remote_call
from regrow.actors.schedule import RESERVED, Schedule, plans_of
from regrow.actors.scheduler import PORT, Scheduler, starter
from regrow.actors.tool import Tool
from regrow.bus import Address, Bus, check_address, check_name, open_bus
from regrow.bus.connection import close, connect, resolve
from regrow.supervisor import ChildSpec, Intensity, Strategy, Supervisor
from regrow.supervisor.watchdog import Watchdog

INTENSITY = Intensity(limit=5, per_s=10.0)
"""How often the children of a system may be restarted before it gives up."""
BLOCKED_AFTER_S = 0.25
"""How long a handler may hold the event loop before the log says which one it is."""


class Node:
    """A system that runs in this process.

    All of it are children of one ``supervisor``: the mail of this node's shards, what keeps the schedules, then the kinds of
    actors and the children in the order in which the system names them, then what answers to the outside. They stop in
    reverse, so that no turn runs on a shard that was let go.
    """

    def __init__(self, system: "System", bus: Bus, url: str) -> None:
        self.system = system
        self.bus = bus
        self.url = url
        """Where other processes of this application reach the bus; empty for a bus in memory."""
        remote = remote_call(bus)
        served = {
            tool.name: remote for child in system.children if not isinstance(child, ChildSpec) for tool in child.tools
        }
        self.host = Host(
            bus, {**system.kinds, RESERVED: system.scheduler}, served, {**system.ports, PORT: system.plans}
        )
        self.client = Client(bus, self.host)
        self.introspection = Introspection(bus, self.host, lambda: self.supervisor.tree())
        gateway = Gateway(bus, {name: kind.actor.__regrow__ for name, kind in system.kinds.items()})
        self.supervisor = Supervisor(
            system.name,
            children=[
                ChildSpec(id="mail", run=self.host.run),
                *self._children(),
                ChildSpec(id="gateway", run=gateway.run),
                ChildSpec(id="introspection", run=self.introspection.run),
                starter(bus, self.client, system.plans),
            ],
            strategy=system.strategy,
            intensity=system.intensity,
        )

    def _children(self) -> Iterator[ChildSpec]:
        """The groups of actors and the other children, in their order."""
        groups = self.host.children()
        yield groups.pop(RESERVED)
        for each in self.system.order:
            match each:
                case str():
                    yield groups[each]
                case ChildSpec():
                    yield each
                case _:
                    yield each.child_spec(self)

    def ref(self, kind: type[Actor], key: str) -> Ref:
        """A reference to a durable actor of this application."""
        return self.client.ref(kind, key)

    async def wait_stopped(self) -> None:
        """Returns only by raising: ``RestartIntensityReached`` when the system could not be kept running."""
        await self.supervisor.wait_stopped()


class Child(Protocol):
    """Anything beside actors that a system supervises, such as a tool agent."""

    @property
    def tools(self) -> Sequence[Tool[..., Any]]: ...

    def child_spec(self, node: Node, /) -> ChildSpec: ...


class System:
    """The actors of an application and how they are kept. Making one starts nothing.

    ``actors`` are classes, or ``Kind(…)`` and ``Singleton(…)`` where more is to be said. ``children`` come after them in the given
    order: more of the same, and what runs beside them, such as a ``ToolAgent``, a ``LocalSystem``, a ``ChildSpec``. All are started
    in that order and stopped in reverse, and ``strategy`` says who is restarted with one that died: it alone (one_for_one),
    all (one_for_all), or it and whoever was started after it (rest_for_one). More deaths than ``intensity`` allows end the
    node, which lets go of its shards. ``schedules`` send to actors by the clock. ``path`` (``module:attribute``) is where
    another process of this application imports it.
    """

    def __init__(
        self,
        name: str,
        actors: Sequence[type[Actor] | Kind] = (),
        *,
        children: "Sequence[type[Actor] | Kind | Child | ChildSpec]" = (),
        strategy: Strategy = "one_for_one",
        schedules: Sequence[Schedule] = (),
        ports: Mapping[str, object] | None = None,
        intensity: Intensity = INTENSITY,
        path: str | None = None,
    ) -> None:
        self.name = check_name("the application's name", name)
        given = (*_listed(actors), *children)
        self.kinds = _by_name([_kind_of(each) for each in given if _child_of(each) is None])
        self.order = tuple(_child_of(each) or definition_of(_kind_of(each).actor).kind for each in given)
        """All children, the kinds by their names."""
        self.children = tuple(each for each in self.order if not isinstance(each, str))
        """What runs beside the actors."""
        if strategy not in get_args(Strategy):
            raise DefinitionError(f"the strategy must be one of {', '.join(get_args(Strategy))}, not {strategy!r}")
        self.strategy: Strategy = strategy
        self.schedules = tuple(schedules)
        self.plans = plans_of(self.schedules, {name: kind.actor for name, kind in self.kinds.items()})
        """The schedules by name, as their actors record them."""
        self.ports = dict(ports or {})
        self.intensity = intensity
        self.path = path

    @property
    def scheduler(self) -> Kind:
        """How the actors that keep schedules are kept; not among ``kinds``, for nobody outside talks to them."""
        checks = any(kind.policy.check_folds for kind in self.kinds.values())
        return Kind(actor=Scheduler, policy=Policy(check_folds=checks))

    def checked(self) -> "System":
        """The same system, comparing every state with the fold of its log after every turn: for development and tests."""
        made = self.replaced()
        made.kinds = {
            name: msgspec.structs.replace(kind, policy=msgspec.structs.replace(kind.policy, check_folds=True))
            for name, kind in self.kinds.items()
        }
        return made

    def replaced(self, *, name: str | None = None, ports: Mapping[str, object] | None = None) -> Self:
        """The same system under another name, or with these ports in the place of those of their names."""
        made = copy(self)
        made.name = self.name if name is None else check_name("the application's name", name)
        made.ports = {**self.ports, **(ports or {})}
        return made

    @asynccontextmanager
    async def host(
        self, bus: Bus, *, url: str = "", blocked_after_s: float | None = BLOCKED_AFTER_S
    ) -> AsyncGenerator[Node]:
        """Runs this system in this process, on this bus, while the block runs.

        ``url``: where processes of its children reach the same bus. ``blocked_after_s``: what holds the event loop for longer
        is named in the log with its actor, by a thread that watches; None for no such thread.
        """
        node = Node(self, bus, url)
        async with AsyncExitStack() as hosting:
            if blocked_after_s is not None:
                await hosting.enter_async_context(Watchdog(blocked_after_s=blocked_after_s, listener=node.host.blocked))
            await hosting.enter_async_context(node.supervisor)
            yield node

    @asynccontextmanager
    async def connect(
        self, url: str | None = None, *, context: str | None = None, creds: Path | None = None
    ) -> AsyncGenerator[Client]:
        """A client of this application on a NATS server: by URL, by NATS context, or as the environment says.

        Raises ``Unreachable`` and ``StoreUnavailable``.
        """
        address = resolve(url=url, context=context, creds=creds)
        client = await connect(address, name=f"regrow-client-{self.name}")
        try:
            async with open_bus(client, self.name) as bus:
                yield Client(bus)
        finally:
            await close(client)


def _listed(actors: Sequence[type[Actor] | Kind]) -> Sequence[type[Actor] | Kind]:
    if not isinstance(actors, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]  # a slip of the untyped
        raise DefinitionError(f"System(actors=…) takes a list of actor classes, not {actors!r}")
    return actors


def _child_of(each: Any) -> Child | ChildSpec | None:
    """What runs beside the actors; None for an actor, and for what is neither, so that the error names what an actor is."""
    if isinstance(each, ChildSpec) or (not isinstance(each, type | Kind) and hasattr(each, "child_spec")):
        child: Child | ChildSpec = each
        return child
    return None


def _kind_of(each: Any) -> Kind:
    return each if isinstance(each, Kind) else Kind(each)


def _by_name(given: Sequence[Kind]) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for kind in given:
        name = definition_of(kind.actor).kind
        if name.startswith(RUNTIME):
            raise DefinitionError(f"the kind {name!r} is the runtime's own; give {kind.actor.__name__} another one")
        if name in kinds:
            raise DefinitionError(
                f"two actor classes have the kind {name!r}; give one of them: class X(Actor, kind=...)"
            )
        for key in kind.pinned:
            check_address(Address(name, key))
        kinds[name] = kind
    return kinds
