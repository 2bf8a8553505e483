"""One application hosted in this process: on an embedded server with a store of its own, or on somebody's NATS."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio

from regrow.actors import Node, System
from regrow.actors.memory import collect_less
from regrow.agents.tool_agent import CREDS
from regrow.bus import DiskFull, EmbeddedServer, open_bus
from regrow.bus.connection import ServerAddress, close, connect
from regrow.bus.server import START_TIMEOUT_S, said_by
from regrow.cli.failures import CommandFailed
from regrow.supervisor import (
    ChildSpec,
    Died,
    Exited,
    Intensity,
    Killed,
    RestartIntensityReached,
    Start,
    Supervisor,
    describe,
)

Durability = Literal["disk", "process"]

SERVER = "REGROW_NATS_SERVER"
"""The environment variable that names a nats-server to be used in the place of the installed one."""
INTENSITY = Intensity(limit=3, per_s=60.0)
"""How often the embedded server may die before the command gives up."""
STOP_S = 25.0
"""What stopping the server may take: it is asked, then killed, then its guard is waited for, 10 s at most each but the second."""
LOOK_S = 0.5
"""How often it is looked whether the disk is full."""
FREE_BYTES_MIN = 64 << 10
LOG_TAIL_BYTES = 4096


@asynccontextmanager
async def embedded(system: System, store: Path, durability: Durability, *, port: int = 0) -> AsyncGenerator[Node]:
    """The application on an embedded server that is started again when it dies, on the same port, where its clients find it.

    When it dies too often, or the disk is full, the block is cancelled and that is raised: a ``BusError``, or ``CommandFailed``.
    """
    server = EmbeddedServer(store / "nats", durability, port=port, binary=chosen_binary())
    tree = Supervisor("embedded", children=[server_child(server)], intensity=INTENSITY)
    async with server, tree, asyncio.TaskGroup() as watching:
        watch = watching.create_task(_watch(server, tree))
        async with _hosted(system, ServerAddress(url=server.url), create=server.created) as node:
            server.settle()
            yield node
        watch.cancel()


def server_child(server: EmbeddedServer) -> ChildSpec:
    """A server that has been entered as a supervisor's child; its cause of death is that of its process.

    The first incarnation takes over the life that has begun, so that what hinders the first start is no death.
    """

    async def run(start: Start) -> None:
        async with AsyncExitStack() as life:
            if start.restarts == 0:
                life.push_async_exit(server)
            else:
                await life.enter_async_context(server)
            start.ready()
            code = await server.wait_exited()
            raise Died(Killed(-code) if code < 0 else Exited(code))

    return ChildSpec(id="nats-server", run=run, shutdown=STOP_S, start_timeout_s=START_TIMEOUT_S + STOP_S)


@asynccontextmanager
async def remote(system: System, address: ServerAddress, *, create: bool) -> AsyncGenerator[Node]:
    """The application on a NATS server that is already there. A credentials file goes by the environment to its processes."""
    if address.creds is not None:
        os.environ[CREDS] = str(address.creds.absolute())
    async with _hosted(system, address, create=create) as node:
        yield node


def run_until_stopped(
    main: Coroutine[Any, Any, int], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> int:
    """Runs a command's coroutine; SIGTERM ends it as Ctrl-C does, so that everything is put away in order.

    ``loop_factory`` makes the event loop, asyncio's own where there is none.
    """

    async def stoppable() -> int:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await main

    collect_less()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(stoppable())


@asynccontextmanager
async def _hosted(system: System, address: ServerAddress, *, create: bool) -> AsyncGenerator[Node]:
    client = await connect(address, name=f"regrow-{system.name}")
    try:
        async with open_bus(client, system.name, create=create) as bus, system.host(bus, url=address.url) as node:
            yield node
    finally:
        await close(client)


async def _watch(server: EmbeddedServer, tree: Supervisor) -> None:
    """Raises what stands in the way of going on: a server that has met a full disk stays silent, also when there is space again."""
    while not _disk_full(server):
        with anyio.move_on_after(LOOK_S):
            await _wait_given_up(server, tree)
    raise DiskFull(server.store)


def _disk_full(server: EmbeddedServer) -> bool:
    """Whether there is hardly any space left, or this server has said so."""
    if shutil.disk_usage(server.store).free < FREE_BYTES_MIN:
        return True
    with (server.store / "server.log").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        lines = said_by(server.pid, log.read().decode(errors="replace"))
    return any("no space left on device" in line for line in lines)


async def _wait_given_up(server: EmbeddedServer, tree: Supervisor) -> None:
    """Raises when the server has died too often: what it could not be started for, else that it died."""
    try:
        await tree.wait_stopped()
    except RestartIntensityReached as error:
        if error.__cause__ is not None:
            raise
        raise CommandFailed(
            f"the embedded nats-server {describe(error.exit)}, and so it did again and again, {server.store / 'server.log'} may "
            "say why; what was acknowledged is kept, the same command goes on from there"
        ) from error


def chosen_binary() -> Path | None:
    """The nats-server that the environment names; None for the installed one."""
    named = os.environ.get(SERVER)
    if not named:
        return None
    if not os.access(named, os.X_OK) or Path(named).is_dir():
        raise CommandFailed(f"{SERVER} names {named}, which is no program that can be run: correct it, or unset it")
    return Path(named)
