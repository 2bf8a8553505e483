"""Connections and applications of one test each, on the server that all tests of the bus share."""

import secrets
from collections.abc import AsyncGenerator

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from regrow.bus import EmbeddedServer, NatsBus, open_bus


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
