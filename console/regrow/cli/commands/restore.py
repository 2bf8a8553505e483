"""``regrow restore``: all streams of an application, made from a backup where none of them is."""

import argparse

from regrow.actors import load_system
from regrow.bus.backup import read_manifest, restore
from regrow.cli.commands.backup import print_manifest
from regrow.cli.session import run_until_stopped
from regrow.cli.target import reached


def run(chosen: argparse.Namespace) -> int:
    """Makes the streams, and prints what is in them."""
    name = load_system(chosen.app).name
    read_manifest(chosen.folder)  # before a store is made for nothing

    async def copy() -> int:
        async with reached(chosen, name, new=True) as client:
            manifest = await restore(client, name, chosen.folder)
        print_manifest(manifest, chosen, "restored from")
        return 0

    return run_until_stopped(copy())
