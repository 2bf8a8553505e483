"""The bus against the holes that were found in its protocol: one server for all of them, and new applications on it."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from regrow.bus import EmbeddedServer, NatsBus, open_bus


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    """A store that does not exist yet."""
    return tmp_path / "store"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    """A server for all tests of this folder."""
    async with EmbeddedServer(tmp_path_factory.mktemp("protocol") / "store", durability="process") as server:
        yield server


@pytest.fixture
def app() -> str:
    """The name of an application that no other test has."""
    return f"t{secrets.token_hex(5)}"


@pytest_asyncio.fixture
async def client(nats_server: EmbeddedServer) -> AsyncGenerator[Client]:
    """A connection of this test: the node's own, and what anybody else may send."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def watcher(nats_server: EmbeddedServer) -> AsyncGenerator[Client]:
    """Another connection, of somebody who looks on."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def nats_bus(client: Client, app: str) -> AsyncGenerator[NatsBus]:
    """A new application's bus."""
    async with open_bus(client, app, create=True) as bus:
        yield bus
