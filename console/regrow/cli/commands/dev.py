"""``regrow dev APP``: an application on an embedded server, with every check on."""

import argparse

from regrow.actors import load_system
from regrow.cli.parser import say
from regrow.cli.session import embedded, run_until_stopped


def run(chosen: argparse.Namespace) -> int:
    """Hosts the application until it is interrupted."""
    return run_until_stopped(_dev(chosen))


async def _dev(chosen: argparse.Namespace) -> int:
    system = load_system(chosen.app).checked()
    async with embedded(system, chosen.store, chosen.durability, port=chosen.port) as node:
        say(f"{system.name} runs on {node.url}; its log is kept in {chosen.store}; Ctrl-C stops it")
        for kind in system.kinds:
            say(f"  ask an actor:  nats --server {node.url} req rg.{system.name}.ask.{kind}.KEY '{{\"type\": …}}'")
        await node.wait_stopped()
    return 0
