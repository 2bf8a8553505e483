"""``regrow index``: a catalogue, researched product by product; whatever ends it, the same command goes on."""

import argparse
import json
import sys
from pathlib import Path

from regrow.agents.usda import fetch_usda, sample_path
from regrow.cli.food_run import NothingToIndex, hosted, index, planned
from regrow.cli.progress import Progress
from regrow.cli.run_store import ALL, Plan, Store
from regrow.cli.say import say
from regrow.cli.session import run_until_stopped


def run(chosen: argparse.Namespace) -> int:
    """Indexes and researches; prints what came of it."""
    path = chosen.file or (fetch_usda(Path(".regrow/usda")) if chosen.source == "usda" else sample_path())
    plan = planned(path, chosen.products or ALL, chosen.id, chosen.text)
    store = Store(chosen.store)
    if store.plan is not None and not store.finished:
        say(f"an unfinished run lies in {store.path}: going on with it")
    store.begin(plan)
    try:
        return run_until_stopped(_index(store, plan, chosen))
    except* NothingToIndex:
        store.clear()
        raise


async def _index(store: Store, plan: Plan, chosen: argparse.Namespace) -> int:
    async with hosted(store, chosen.durability) as node:
        with Progress("products researched") as bar:
            status = await index(
                node,
                plan,
                on_plan=lambda status: bar.begin(status.products_done, status.products),
                on_progress=lambda status: bar.show(status.products_done),
            )
    store.finish()
    for line in status.first_bad:
        say(f"skipped, {line}")
    if more := status.bad_rows - len(status.first_bad):
        say(f"skipped, and {more:,} more")
    done = {
        "v": 1,
        "products_indexed": status.products_done,
        "bad_rows": status.bad_rows,
        "source": Path(plan.source.path).name,
        "store": str(store.path),
    }
    if chosen.json:
        json.dump(done, sys.stdout)
        print()
    else:
        print(f"{status.products_done:,} products indexed, {status.bad_rows:,} rows skipped; kept in {store.path}")
        print(f'next: regrow recommend "like CHEDDAR CHEESE but less sodium" --store {store.path}')
    return 0
