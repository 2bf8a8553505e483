"""``regrow cache``: what the application's tools share, and letting go of it."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence

from regrow.actors import System
from regrow.bus import NatsBus
from regrow.bus.cache import Held
from regrow.cli.failures import CommandFailed
from regrow.cli.target import on_bus


def run(chosen: argparse.Namespace) -> int:
    """Counts or purges."""
    if chosen.action == "purge" and not (chosen.tag or chosen.tool or chosen.all):
        raise CommandFailed("say what to let go of: --tag TAG, --tool NAME, or --all")
    return on_bus(_act, chosen)


async def _act(_: System, bus: NatsBus, chosen: argparse.Namespace) -> int:
    held = await bus.cache.entries(chosen.tool)
    if chosen.action == "stats":
        _print_stats(held, as_json=chosen.json)
        return 0
    going = [each for each in held if not chosen.tag or chosen.tag in each.tags]
    for each in going:
        await bus.cache.drop(each.name, each.revision)
    print(json.dumps({"v": 1, "purged": len(going)}) if chosen.json else f"purged {len(going)} of {len(held)}")
    return 0


def _print_stats(held: Sequence[Held], *, as_json: bool) -> None:
    entries, sizes = Counter[str](), Counter[str]()
    for each in held:
        tool = each.name.partition(".")[0]
        entries[tool] += 1
        sizes[tool] += len(each.data)
    tags = Counter(tag for each in held for tag in each.tags)
    oldest_s = max((time.time() - each.time_ns / 1e9 for each in held), default=0.0)
    if as_json:
        tools = {tool: {"entries": number, "bytes": sizes[tool]} for tool, number in sorted(entries.items())}
        print(json.dumps({"v": 1, "tools": tools, "tags": dict(sorted(tags.items())), "oldest_s": round(oldest_s)}))
        return
    if not held:
        print("nothing is shared")
        return
    for tool, number in sorted(entries.items()):
        print(f"{tool:24} {number:>8,} results {sizes[tool]:>12,} bytes")
    print(
        f"oldest {oldest_s:,.0f} s; tags: {', '.join(f'{tag} ({number})' for tag, number in sorted(tags.items())) or 'none'}"
    )
