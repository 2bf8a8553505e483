"""The process of a tool agent: ``python -m regrow.agents.tool_process module:attribute agent-name``.

It serves the tools of one agent until its standard input ends, which happens when its owner dies, however it dies.
"""

import asyncio
import os
import signal
import sys

from regrow.actors import load_system
from regrow.actors.logs import log_to_stderr
from regrow.agents.tool_agent import ToolAgent
from regrow.bus import open_bus
from regrow.bus.connection import connect, resolve


async def serve(path: str, name: str) -> None:
    """Serves the agent of that name of the system at that path."""
    system = load_system(path)
    agents: dict[str, ToolAgent] = {each.name: each for each in system.children if isinstance(each, ToolAgent)}
    if name not in agents:
        raise SystemExit(f"{path} has no tool agent {name!r}; it has {', '.join(sorted(agents)) or 'none'}")
    client = await connect(resolve(url=os.environ["REGROW_TOOL_AGENT_URL"]), name=f"regrow-tools-{name}")
    try:
        async with open_bus(client, system.name) as bus, agents[name].serve(bus):
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            await _owner_gone()
    finally:
        await client.close()


async def _owner_gone() -> None:
    """Returns when standard input has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            ended.set()

    loop.add_reader(sys.stdin.fileno(), read)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())


def main() -> None:
    """The process's entry: a terminal's Ctrl-C is the owner's to judge."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr()
    asyncio.run(serve(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
