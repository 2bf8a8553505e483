"""Hosting a system for a test: in memory, or on a server under a name that nobody else has; with other ports than in earnest."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from regrow.actors import Node, System
from regrow.bus import MemoryBus, open_bus
from regrow.bus.connection import ServerAddress, close, connect


def replaced(system: System, *, name: str | None = None, ports: Mapping[str, object] | None = None) -> System:
    """The same system under another name, with some ports replaced; it checks every state against the fold of its log.

    ``ports``: by name; those that are not named stay. A tool agent in a process of its own imports the application by its path,
    and knows neither the name nor the ports.
    """
    return system.replaced(name=name, ports=ports).checked()


@asynccontextmanager
async def in_memory(
    system: System, *, ports: Mapping[str, object] | None = None, bus: MemoryBus | None = None
) -> AsyncGenerator[Node]:
    """The system on a bus in memory, while the block runs. Give the bus to host it again on what it left behind.

    Takes some milliseconds; no server, no process. Its timers wait by the clock of the running loop.
    """
    bus = MemoryBus(system.name) if bus is None else bus
    async with replaced(system, ports=ports).host(bus) as node:
        yield node


@asynccontextmanager
async def on_server(
    system: System, url: str, name: str, *, ports: Mapping[str, object] | None = None
) -> AsyncGenerator[Node]:
    """The system on a server, under this name; its streams are made where there are none, and stay."""
    client = await connect(ServerAddress(url=url), name=f"regrow-test-{name}")
    try:
        async with (
            open_bus(client, name, create=True) as bus,
            replaced(system, name=name, ports=ports).host(bus, url=url) as node,
        ):
            yield node
    finally:
        await close(client)
