"""The process of a tool agent: ``python -m regrow.agents.tool_process module:attribute agent-name``.

It serves the tools of one agent until SIGTERM. Its guard (``regrow.workers.guard``) sends that when the owner is gone, however
it went, and kills the process soon after: neither a tool that never returns nor one that blocks the loop keeps it alive.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from regrow.actors import load_system
from regrow.actors.logs import log_to_stderr
from regrow.agents.tool_agent import CREDS, READY, URL, ToolAgent
from regrow.bus import open_bus
from regrow.bus.connection import ServerAddress, close, connect


async def serve(path: str, name: str) -> None:
    """Serves the agent of that name of the system at that path until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
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


def _say_ready() -> None:
    """Tells the owner. What the tools print from now on goes to standard error: nobody reads that pipe any more."""
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    os.dup2(2, 1)


def main() -> None:
    """The process's entry: a terminal's Ctrl-C is the owner's to judge."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr()
    asyncio.run(serve(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
