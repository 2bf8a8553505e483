"""``regrow backup``: all streams of an application, copied to a directory while none of its nodes runs."""

import argparse

from regrow.actors import load_system
from regrow.bus.backup import Manifest, back_up
from regrow.bus.codec import encode
from regrow.cli.session import run_until_stopped
from regrow.cli.target import reached


def run(chosen: argparse.Namespace) -> int:
    """Makes the copy, and prints what is in it."""
    name = load_system(chosen.app).name

    async def copy() -> int:
        async with reached(chosen, name) as client:
            manifest = await back_up(client, name, chosen.folder, force=chosen.force)
        print_manifest(manifest, chosen, "copied to")
        return 0

    return run_until_stopped(copy())


def print_manifest(manifest: Manifest, chosen: argparse.Namespace, done: str) -> None:
    """What is in a backup, and what was done with it."""
    if chosen.json:
        print(encode(manifest).decode())
    else:
        print(f"{len(manifest.streams)} streams with {manifest.messages:,} messages {done} {chosen.folder}")
