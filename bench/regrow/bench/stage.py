"""Where the durable benchmarks run: an embedded server of their own, a bus on it, and a raw connection for the floor."""

import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import nats

from regrow.bench.raw import RawLog, raw_log
from regrow.bus import EmbeddedServer, NatsBus, open_bus
from regrow.bus.server import Durability

APP = "bench"


class Stage(NamedTuple):
    """Ours and the floor's way to the same server, each on its own connection."""

    bus: NatsBus
    raw: RawLog


@asynccontextmanager
async def stage(durability: Durability) -> AsyncGenerator[Stage]:
    """A new server with empty streams; gone, with its store, at the end of the block."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="regrow-bench-"))
        server = await stack.enter_async_context(EmbeddedServer(Path(folder) / "store", durability=durability))
        ours, theirs = await nats.connect(server.url), await nats.connect(server.url)
        stack.push_async_callback(ours.close)
        stack.push_async_callback(theirs.close)
        bus = await stack.enter_async_context(open_bus(ours, APP, create=True))
        yield Stage(bus, await stack.enter_async_context(raw_log(theirs)))
