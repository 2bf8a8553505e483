"""A system: the actors and other children of one application, said once; hosted here, or reached from anywhere."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from regrow.actors.actor import Actor
from regrow.actors.administration import RUNTIME
from regrow.actors.client import Client
from regrow.actors.definition import definition_of
from regrow.actors.errors import DefinitionError
from regrow.actors.gateway import Gateway
from regrow.actors.group import Kind
from regrow.actors.host import Host
from regrow.actors.introspection import Introspection
from regrow.actors.policy import Policy
from regrow.actors.ref import Ref
from regrow.actors.remote import remote_call
from regrow.actors.schedule import RESERVED, Schedule, plans_of
from regrow.actors.scheduler import PORT, Scheduler, starter
from regrow.actors.tool import Tool
from regrow.bus import Bus, check_name, open_bus
from regrow.bus.connection import close, connect, resolve
from regrow.supervisor import ChildSpec, Intensity, Supervisor

INTENSITY = Intensity(limit=5, per_s=10.0)
"""How often the children of a system may be restarted before it gives up."""


class Node:
    """A system that runs in this process."""

    def __init__(self, system: "System", bus: Bus, url: str) -> None:
        self.system = system
        self.bus = bus
        self.url = url
        """Where other processes of this application reach the bus; empty for a bus in memory."""
        remote = remote_call(bus)
        served = {tool.name: remote for child in system.children for tool in child.tools}
        self.host = Host(
            bus, {**system.kinds, RESERVED: system.scheduler}, served, {**system.ports, PORT: system.plans}
        )
        self.client = Client(bus, self.host)
        self.introspection = Introspection(bus, self.host, lambda: self.supervisor.tree())
        gateway = Gateway(bus, {name: kind.actor.__regrow__ for name, kind in system.kinds.items()})
        self.supervisor = Supervisor(
            system.name,
            children=[
                ChildSpec(id="actors", run=self.host.run),
                *(child.child_spec(self) for child in system.children),
                ChildSpec(id="gateway", run=gateway.run),
                ChildSpec(id="introspection", run=self.introspection.run),
                starter(bus, self.client, system.plans),
            ],
            intensity=system.intensity,
        )

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

    def child_spec(self, node: Node) -> ChildSpec: ...


class System:
    """The actors of an application and how they are kept. Making one starts nothing.

    ``actors`` are classes, or ``Kind(actor=…)`` where more is to be said; ``children`` run beside them, started after the
    actors in the given order. ``schedules`` send to actors by the clock. ``path`` (``module:attribute``) is where another
    process of this application imports it.
    """

    def __init__(
        self,
        name: str,
        actors: Sequence[type[Actor] | Kind] = (),
        *,
        children: Sequence[Child] = (),
        schedules: Sequence[Schedule] = (),
        ports: Mapping[str, object] | None = None,
        intensity: Intensity = INTENSITY,
        path: str | None = None,
    ) -> None:
        self.name = check_name("the application's name", name)
        self.kinds = _by_name(actors)
        self.children = tuple(children)
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
        kinds = [
            msgspec.structs.replace(kind, policy=msgspec.structs.replace(kind.policy, check_folds=True))
            for kind in self.kinds.values()
        ]
        return System(
            self.name,
            kinds,
            children=self.children,
            schedules=self.schedules,
            ports=self.ports,
            intensity=self.intensity,
            path=self.path,
        )

    @asynccontextmanager
    async def host(self, bus: Bus, *, url: str = "") -> AsyncGenerator[Node]:
        """Runs this system in this process, on this bus, while the block runs.

        ``url``: where processes of its children reach the same bus.
        """
        node = Node(self, bus, url)
        async with node.supervisor:
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


def _by_name(actors: Sequence[type[Actor] | Kind]) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    if not isinstance(actors, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]  # a slip of the untyped
        raise DefinitionError(f"System(actors=…) takes a list of actor classes, not {actors!r}")
    for each in actors:
        kind = each if isinstance(each, Kind) else Kind(actor=each)
        name = definition_of(kind.actor).kind
        if name.startswith(RUNTIME):
            raise DefinitionError(f"the kind {name!r} is the runtime's own; give {kind.actor.__name__} another one")
        if name in kinds:
            raise DefinitionError(
                f"two actor classes have the kind {name!r}; give one of them: class X(Actor, kind=...)"
            )
        kinds[name] = kind
    return kinds
