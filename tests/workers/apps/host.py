"""A host with one process as its child: `python host.py PROGRAM ARGUMENT…`; it stays until it is killed."""

import asyncio
import sys

from regrow.supervisor import Supervisor
from regrow.workers import Process, process_child


async def main() -> None:
    """Supervise the program until the end."""
    async with Supervisor("host", children=[process_child(Process("family", tuple(sys.argv[1:])))]) as tree:
        await tree.wait_stopped()


asyncio.run(main())
