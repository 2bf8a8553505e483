"""Connections and applications of one test each, on the server that all tests of the bus share."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from regrow.bus import EmbeddedServer, MemoryBus, NatsBus, open_bus


@pytest.fixture
def app() -> str:
    """The name of an application that no other test has."""
    return f"t{secrets.token_hex(5)}"


@pytest_asyncio.fixture
async def client(nats_server: EmbeddedServer) -> AsyncGenerator[Client]:
    """A connection of this test."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def nats_bus(client: Client, app: str) -> AsyncGenerator[NatsBus]:
    """A new application's bus on the real server."""
    async with open_bus(client, app, create=True) as bus:
        yield bus


@pytest_asyncio.fixture(params=["memory", "nats"])
async def nodes(
    request: pytest.FixtureRequest, nats_server: EmbeddedServer, app: str
) -> AsyncGenerator[tuple[MemoryBus, MemoryBus] | tuple[NatsBus, NatsBus]]:
    """The buses of two nodes of a new application, in memory and on the real server."""
    if request.param == "memory":
        bus = MemoryBus(app)
        yield bus, bus
        return
    async with AsyncExitStack() as stack:
        first, second = await nats.connect(nats_server.url), await nats.connect(nats_server.url)
        stack.push_async_callback(first.close)
        stack.push_async_callback(second.close)
        here = await stack.enter_async_context(open_bus(first, app, create=True))
        yield here, await stack.enter_async_context(open_bus(second, app))
