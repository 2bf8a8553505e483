"""The process of a tool agent: ``python -m regrow.agents.tool_process module:attribute agent-name``.

It serves the tools of one agent until its standard input ends, which happens when its owner dies, however it dies. A thread
watches for that, so that neither a tool that never returns nor one that blocks the loop keeps the process alive.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from regrow.actors import load_system
from regrow.actors.logs import log_to_stderr
from regrow.agents.tool_agent import CREDS, STOP_S, URL, ToolAgent
from regrow.bus import open_bus
from regrow.bus.connection import ServerAddress, close, connect


async def serve(path: str, name: str) -> None:
    """Serves the agent of that name of the system at that path until standard input ends."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    threading.Thread(target=_watch, args=(lambda: loop.call_soon_threadsafe(stopping.set),), daemon=True).start()
    system = load_system(path)
    agents: dict[str, ToolAgent] = {each.name: each for each in system.children if isinstance(each, ToolAgent)}
    if name not in agents:
        raise SystemExit(f"{path} has no tool agent {name!r}; it has {', '.join(sorted(agents)) or 'none'}")
    creds = os.environ.get(CREDS)
    address = ServerAddress(url=os.environ[URL], creds=Path(creds) if creds else None)
    client = await connect(address, name=f"regrow-tools-{name}")
    try:
        async with open_bus(client, system.name) as bus, agents[name].serve(bus):
            _say_ready()
            await stopping.wait()
            log_to_stderr("critical")  # a server that goes with its owner is nothing to warn of
    finally:
        await close(client)


def _watch(stop: Callable[[], object]) -> None:
    """Asks the loop to stop when standard input ends, and ends the process when that has not happened in time."""
    while os.read(0, 4096):
        pass
    with contextlib.suppress(RuntimeError):  # the loop has ended by itself
        stop()
    time.sleep(STOP_S)
    os._exit(1)


def _say_ready() -> None:
    """Tells the owner. What the tools print from now on goes to standard error: nobody reads that pipe any more."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.dup2(2, 1)


def main() -> None:
    """The process's entry: a terminal's Ctrl-C is the owner's to judge."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr()
    asyncio.run(serve(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
