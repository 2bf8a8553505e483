"""``regrow tree``: how the nodes of a running application stand, and which of its actors wait for one another."""

import argparse
import time
from collections.abc import Iterator

import msgspec

from regrow.actors import System
from regrow.actors.insight import Branch, KindSeen, NodeSeen, Seen, Wait
from regrow.actors.steering import look
from regrow.actors.waits_for import said
from regrow.bus import NatsBus
from regrow.cli.commands.dead_letters import when
from regrow.cli.failures import CommandFailed
from regrow.cli.target import on_bus

WAITS_PRINTED = 10
COUNTS = ("active", "waiting", "parked", "suspended", "idle", "mail")


def run(chosen: argparse.Namespace) -> int:
    """Asks the nodes that run now."""
    if chosen.store is not None:
        raise CommandFailed("in a store that is not served no node runs: look at it where its nodes run, with --nats")
    return on_bus(_act, chosen)


async def _act(_: System, bus: NatsBus, chosen: argparse.Namespace) -> int:
    seen = await look(bus, chosen.wait)
    if chosen.json:
        print(msgspec.json.encode({"v": 1, **msgspec.to_builtins(seen)}).decode())
    else:
        print("\n".join(described(seen, time.time_ns() // 1_000_000)))
    return 0


def described(seen: Seen, now_ms: int) -> Iterator[str]:
    """How an application stands, for people, line by line."""
    for node in seen.nodes:
        yield from _node(node)
        yield ""
    if seen.silent:
        yield f"silent    {len(seen.silent)} shards are served by no node that answered: {_ranges(seen.silent)}"
    for wait in seen.waits[:WAITS_PRINTED]:
        yield f"waits     {_wait(wait, now_ms)}"
    more = max(0, len(seen.waits) - WAITS_PRINTED) + sum(node.waits_hidden for node in seen.nodes)
    if more:
        yield f"waits     {more:,} more"
    for path in seen.cycles:
        yield f"cycle     {said(path)}: none of them can answer before an ask times out"


def _node(node: NodeSeen) -> Iterator[str]:
    serves = f"serves shards {_ranges(node.shards)}" if node.shards else "stands by"
    yield f"node {node.id} on {node.host}, process {node.pid}, {serves}"
    yield from _branch(node.tree)
    yield from _kinds([kind for kind in node.kinds if not kind.kind.startswith("rg_")])
    if node.busiest:
        yield "busiest   " + ", ".join(f"{each.actor} ({each.mail:,})" for each in node.busiest)


def _branch(branch: Branch, stem: str = "", mark: str = "") -> Iterator[str]:
    """A supervisor or a child, and below it what it has."""
    said_of = [branch.state]
    if branch.strategy is not None:
        said_of.append(branch.strategy)
    said_of.append(f"since {when(branch.since_ms * 1_000_000)}")
    if branch.restarts:
        said_of.append(f"{branch.restarts:,} restarts")
    if branch.cause is not None:
        said_of.append(f"the last one {branch.cause}")
    said_of += [f"{name} {value}" for name, value in branch.detail.items()]
    yield f"{stem}{mark}{branch.name}  {', '.join(said_of)}"
    below = stem + {"": "", "├─ ": "│  ", "└─ ": "   "}[mark]
    for number, child in enumerate(branch.children, 1):
        last = number == len(branch.children) and not branch.hidden
        yield from _branch(child, below, "└─ " if last else "├─ ")
    if branch.hidden:
        yield f"{below}└─ {branch.hidden:,} more"


def _kinds(kinds: list[KindSeen]) -> Iterator[str]:
    width = max([len("kind"), *(len(each.kind) for each in kinds)])
    if kinds:
        yield f"{'kind':{width}}" + "".join(f"{name:>11}" for name in COUNTS)
    for each in kinds:
        yield f"{each.kind:{width}}" + "".join(f"{getattr(each, name):>11,}" for name in COUNTS)


def _wait(wait: Wait, now_ms: int) -> str:
    for_s, left_s = (now_ms - wait.since_ms) / 1000, (wait.deadline_ms - now_ms) / 1000
    nowhere = ", unloaded" if wait.suspended else ""
    return f"{wait.waiter} -> {wait.on} for {for_s:.1f} s, {left_s:.1f} s left{nowhere}, step {wait.step}"


def _ranges(numbers: tuple[int, ...]) -> str:
    """Numbers in order, those that follow one another as from-to."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in found)
