"""The server that an operator's command works on: one that runs, or the store of an embedded one that does not."""

import argparse
import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from regrow.actors import System, load_system
from regrow.bus import EmbeddedServer, NatsBus, open_bus
from regrow.bus.backup import Client
from regrow.bus.connection import ServerAddress, close, connect, resolve
from regrow.bus.store import is_settled
from regrow.cli.failures import CommandFailed
from regrow.cli.session import chosen_binary, run_until_stopped

Act = Callable[[System, NatsBus, argparse.Namespace], Coroutine[Any, Any, int]]


def on_bus(act: Act, chosen: argparse.Namespace) -> int:
    """Runs a command on the application's bus; no actor of it runs here. Its exit code."""
    system = load_system(chosen.app)

    async def run() -> int:
        async with reached(chosen, system.name) as client, open_bus(client, system.name) as bus:
            return await act(system, bus, chosen)

    return run_until_stopped(run())


@asynccontextmanager
async def reached(chosen: argparse.Namespace, name: str, *, new: bool = False) -> AsyncGenerator[Client]:
    """A connection to the chosen server; with ``new`` also to one whose store is still to be made."""
    if chosen.store is None:
        address = resolve(url=chosen.nats, context=chosen.context, creds=chosen.creds)
        async with _connected(address, name) as client:
            yield client
        return
    # What is made anew is on the disk when all of it is there; to sync each message meanwhile would take a hundred times as long.
    server = EmbeddedServer(_store(chosen.store, new=new), "process" if new else "disk", binary=chosen_binary())
    async with server, _connected(ServerAddress(url=server.url), name) as client:
        yield client
        await asyncio.to_thread(os.sync)


@asynccontextmanager
async def _connected(address: ServerAddress, name: str) -> AsyncGenerator[Client]:
    client = await connect(address, name=f"regrow-operator-{name}")
    try:
        yield client
    finally:
        await close(client)


def _store(path: Path, *, new: bool) -> Path:
    """The directory of the server in a store. Raises ``CommandFailed`` where nothing is kept, rather than make something there."""
    if not new and not is_settled(path / "nats"):
        raise CommandFailed(f"nothing is kept in {path}: name the directory that 'regrow dev' said its log is kept in")
    return path / "nats"
