"""What the tests of the bus share: one running server, and a place for a store of one's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from regrow.bus.server import EmbeddedServer


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    """A store that does not exist yet."""
    return tmp_path / "store"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    """A server for all tests: name applications and streams apart, and start another one to kill it."""
    async with EmbeddedServer(tmp_path_factory.mktemp("bus") / "store", durability="process") as server:
        yield server
