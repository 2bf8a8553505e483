"""``regrow dev APP``: an application on an embedded server, with every check on."""

import argparse
from pathlib import Path

import msgspec

from regrow.actors import Actor, System, load_system
from regrow.actors.message import tag_of
from regrow.cli.loop import Loop, chosen_loop
from regrow.cli.parser import DEV_STORES
from regrow.cli.say import say
from regrow.cli.session import embedded, run_until_stopped


def run(chosen: argparse.Namespace) -> int:
    """Hosts the application until it is interrupted."""
    loop = chosen_loop(chosen.loop)
    system = load_system(chosen.app).checked()
    store = chosen.store or Path(DEV_STORES, system.name)
    return run_until_stopped(_dev(system, store, loop, chosen), loop.factory)


async def _dev(system: System, store: Path, loop: Loop, chosen: argparse.Namespace) -> int:
    async with embedded(system, store, chosen.durability, port=chosen.port) as node:
        say(f"{system.name} runs on {node.url}; its log is kept in {store}; Ctrl-C stops it")
        for kind in system.kinds.values():
            say(f"  nats --server {node.url} req {asking(system.name, kind.actor)}")
        say(loop.said)
        await node.wait_stopped()
    return 0


def asking(app: str, actor: type[Actor]) -> str:
    """Subject and message of an ask, for a shell: the first message that the actor takes, its values left out."""
    definition = actor.__regrow__
    subject = f"rg.{app}.ask.{definition.kind}.KEY"
    for message in (*definition.commands, *definition.queries):
        fields = [
            f'"type":"{tag_of(message)}"',
            *(f'"{each.encode_name}":…' for each in msgspec.structs.fields(message)),
        ]
        return f"{subject} '{{{','.join(fields)}}}'"
    return subject
