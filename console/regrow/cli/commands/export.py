"""``regrow export``: the finished cards, sorted by id, the same bytes for the same catalogue and rules."""

import argparse
import sys

from regrow.agents.store import CatalogStore
from regrow.cli.failures import CommandFailed
from regrow.cli.run_store import Store
from regrow.cli.say import say


def run(chosen: argparse.Namespace) -> int:
    """Writes one JSON document with all cards, or one card a line."""
    store = Store(chosen.store)
    if not store.catalog.exists():
        raise CommandFailed(f"nothing is indexed in {store.path}; first: regrow index --store {store.path}")
    if not store.finished:
        say(f"the run in {store.path} is not finished: these are the cards that are filed so far")
    out = sys.stdout.buffer
    with CatalogStore(store.catalog) as catalog:
        if not chosen.json:
            for _, card in catalog.cards():
                out.write(card + b"\n")
            return 0
        out.write(b'{"v":1,"cards":[')
        for number, (_, card) in enumerate(catalog.cards()):
            out.write((b",\n" if number else b"\n") + card)
        out.write(b"\n]}\n")
    return 0
