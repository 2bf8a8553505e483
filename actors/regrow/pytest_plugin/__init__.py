"""The plugin for pytest: fixtures for tests of applications. It imports nothing of regrow until a test asks for one.

``regrow_memory`` and ``regrow_node`` host a system; ``regrow_server`` is the session's nats-server, ``regrow_app_name`` this test's
application on it; ``regrow_witness`` sees which tool bodies ran. None of them is async: they go with any plugin for async
tests, and with ``regrow.testing.virtual_time``.
"""

import asyncio
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest


class Hosting(Protocol):
    """``async with hosting(app, ports={"model": fake}) as node``: the system, with those ports replaced."""

    def __call__(
        self, system: Any, *, ports: Mapping[str, object] | None = None
    ) -> AbstractAsyncContextManager[Any]: ...


@pytest.fixture(scope="session")
def regrow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An embedded nats-server (``.url``) for the whole session; killed at its end, with all that it stored."""
    from regrow.bus import EmbeddedServer

    server = EmbeddedServer(tmp_path_factory.mktemp("regrow") / "store", durability="process")
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(server.__aenter__())
        try:
            yield server
        finally:
            os.kill(server.pid, signal.SIGKILL)
            loop.run_until_complete(server.__aexit__(None, None, None))
    finally:
        loop.close()


@pytest.fixture
def regrow_app_name() -> str:
    """The name of an application that no other test has."""
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def regrow_node(regrow_server: Any, regrow_app_name: str) -> Hosting:
    """Hosts a system on the session's server, under this test's own name; again on the same logs when called again."""
    from regrow.testing.hosting import on_server

    return partial(on_server, url=regrow_server.url, name=regrow_app_name)


@pytest.fixture
def regrow_memory(regrow_app_name: str) -> Hosting:
    """Hosts a system in memory, in some milliseconds; again on what it left behind when called again."""
    from regrow.bus import MemoryBus
    from regrow.testing.hosting import in_memory

    return partial(in_memory, bus=MemoryBus(regrow_app_name))


@pytest.fixture
def regrow_witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """Switches the witness on; called, every execution of a tool's body that called ``regrow.actors.witness.witness()``."""
    from regrow.actors.witness import WITNESS, sightings

    path = tmp_path / "witness.jsonl"
    monkeypatch.setenv(WITNESS, str(path))
    return lambda: list(sightings(path))
