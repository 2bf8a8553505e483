"""``regrow run APP``: a node of an application on a NATS server of one's own."""

import argparse

from regrow.actors import System, load_system
from regrow.bus.connection import resolve
from regrow.cli.loop import Loop, chosen_loop
from regrow.cli.say import say
from regrow.cli.session import remote, run_until_stopped


def run(chosen: argparse.Namespace) -> int:
    """Hosts the application until it is interrupted."""
    loop = chosen_loop(chosen.loop)
    return run_until_stopped(_run(load_system(chosen.app), loop, chosen), loop.factory)


async def _run(system: System, loop: Loop, chosen: argparse.Namespace) -> int:
    address = resolve(url=chosen.nats, context=chosen.context, creds=chosen.creds)
    async with remote(system, address, create=chosen.create) as node:
        say(f"{system.name} runs on {address}; Ctrl-C stops it")
        say(loop.said)
        await node.wait_stopped()
    return 0
