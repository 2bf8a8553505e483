"""What the tests of actors share: a bus in memory and one on a real server, further connections to it, and its dead letters."""

import base64
import os
import secrets
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from regrow.actors.dead_letter import DeadLetter
from regrow.bus import Bus, EmbeddedServer, MemoryBus, decode, encode, open_bus
from regrow.bus.connection import ServerAddress, connect

OpenBus = Callable[[], Awaitable[Bus]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    """A server for all tests: name applications apart, and start another one to kill it."""
    async with EmbeddedServer(tmp_path_factory.mktemp("actors") / "store", durability="process") as server:
        yield server
        os.kill(server.pid, signal.SIGKILL)  # with all these streams it would take its time to go


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged, instead of the same rendered with all its locals."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def app_name() -> str:
    """The name of an application that no other test has."""
    return f"t{secrets.token_hex(5)}"


@pytest_asyncio.fixture
async def open_nats(nats_server: EmbeddedServer, app_name: str) -> AsyncGenerator[OpenBus]:
    """Opens one more connection of its own to this test's application on the real server."""
    async with AsyncExitStack() as stack:

        async def open_one() -> Bus:
            client = await connect(ServerAddress(url=nats_server.url), name="test")
            stack.push_async_callback(client.close)
            return await stack.enter_async_context(open_bus(client, app_name, create=True))

        yield open_one


@pytest.fixture(params=["memory", "nats"])
def open_another(request: pytest.FixtureRequest, app_name: str) -> OpenBus:
    """Opens the bus of this test's application, as another process would."""
    if request.param == "nats":
        open_one: OpenBus = request.getfixturevalue("open_nats")
        return open_one
    shared = MemoryBus(app_name)

    async def same() -> Bus:
        return shared

    return same


@pytest_asyncio.fixture
async def bus(open_another: OpenBus) -> Bus:
    """A new application's bus, once in memory and once on the real server."""
    return await open_another()


@pytest_asyncio.fixture
async def nats_bus(open_nats: OpenBus) -> Bus:
    """A new application's bus on the real server."""
    return await open_nats()


class _Found(msgspec.Struct):
    data: str


class _Answer(msgspec.Struct):
    message: _Found | None = None


@pytest.fixture
def dead_letters(bus: Bus) -> Callable[[], Awaitable[list[DeadLetter]]]:
    """Reads the dead letters of this test's application, oldest first."""

    async def read() -> list[DeadLetter]:
        if isinstance(bus, MemoryBus):
            return [decode(each.stored.data, DeadLetter) for each in await bus.dead.find()]
        found: list[DeadLetter] = []
        api = f"$JS.API.STREAM.MSG.GET.{bus.subjects.dead_letter_stream}"
        while True:
            reply = await bus.request(api, encode({"seq": len(found) + 1}), timeout_s=5.0)
            message = msgspec.json.decode(reply.body, type=_Answer).message
            if message is None:
                return found
            found.append(decode(base64.b64decode(message.data), DeadLetter))

    return read
