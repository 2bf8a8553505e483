"""Where the durable benchmarks run: an embedded server of their own, a bus on it, and a raw connection for the floor."""

import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import nats
from nats.aio.client import Client

from regrow.bench.raw import RawLog, raw_log
from regrow.bus import EmbeddedServer, NatsBus, open_bus
from regrow.bus.connection import close, connect, resolve
from regrow.bus.server import Durability

APP = "bench"


class Stage(NamedTuple):
    """Ours and the floor's way to the same server, each on its own connection."""

    bus: NatsBus
    raw: RawLog
    client: Client
    """The floor's connection, for what ``raw`` does not do."""
    store: Path
    """Where the server keeps everything."""


@asynccontextmanager
async def stage(durability: Durability) -> AsyncGenerator[Stage]:
    """A new server with empty streams; gone, with its store, at the end of the block."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="regrow-bench-"))
        store = Path(folder) / "store"
        server = await stack.enter_async_context(EmbeddedServer(store, durability=durability))
        ours = await connect(resolve(url=server.url), name="regrow-bench")
        stack.push_async_callback(close, ours)
        theirs = await nats.connect(server.url)
        stack.push_async_callback(theirs.close)
        bus = await stack.enter_async_context(open_bus(ours, APP, create=True))
        raw = await stack.enter_async_context(raw_log(theirs))
        yield Stage(bus, raw, theirs, store)
