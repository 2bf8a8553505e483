"""A million restarts of supervised children: what they leave behind in memory, tasks, timers and descriptors.

Children die at once and are restarted without backoff, with crash reports, under all three strategies and a dynamic supervisor,
in equal parts, each part under one supervisor that lives through it. The process is measured at a tenth of each part (until then
caches fill) and at its end. Prints both and the growth between them. Exits 1 when resident memory grew by more than 2 MiB in any
part, or a task or a descriptor was left.

    python bench/restarts_for_ever.py
    python bench/restarts_for_ever.py --restarts 100000 --json

It takes about a minute.
"""

import argparse
import asyncio
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import get_args

import structlog

from regrow.bench.resident import descriptors, resident_bytes
from regrow.supervisor import Backoff, ChildSpec, DynamicSupervisor, Intensity, Start, Strategy, Supervisor

GROWTH_MAX = 2 * 2**20
ENDLESS = Intensity(1_000_000_000, per_s=0.1)  # the window holds the restarts of its period and is no leak


@dataclass(frozen=True)
class Footprint:
    """What the process holds."""

    deaths: int
    rss: int
    tasks: int
    descriptors: int
    objects: int


class Boom(Exception):
    """What the children die of."""


class Dying:
    """Children that die until they have died so often, all together; looks at the process early and at the end."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.died = 0
        self.seen: list[Footprint] = []
        self.done = asyncio.Event()

    async def run(self, start: Start) -> None:
        start.ready()
        if self.died in (self.times // 10, self.times):
            self.seen.append(footprint(self.died))
        if self.died >= self.times:
            self.done.set()
            await asyncio.Event().wait()
        self.died += 1
        raise Boom

    def spec(self, name: str) -> ChildSpec:
        return ChildSpec(id=name, run=self.run, backoff=Backoff(first_s=0.0))


async def serve(start: Start) -> None:
    start.ready()
    await asyncio.Event().wait()


async def together(strategy: Strategy, times: int) -> list[Footprint]:
    """One child dies; its siblings, where the strategy concerns them, are restarted with it and count."""
    dying = Dying(times // {"one_for_one": 1, "one_for_all": 3, "rest_for_one": 2}[strategy])
    siblings = [ChildSpec(id=name, run=serve) for name in ("before", "after")]
    children = [siblings[0], dying.spec("dying"), siblings[1]]
    async with Supervisor("root", strategy=strategy, children=children, intensity=ENDLESS):
        await dying.done.wait()
    return dying.seen[:2]


async def dynamic(times: int) -> list[Footprint]:
    """Ten children of one spec die."""
    dying = Dying(times)
    async with DynamicSupervisor("pool", intensity=ENDLESS) as pool:
        for _ in range(10):
            await pool.start_child(dying.spec("dying"))
        await dying.done.wait()
    return dying.seen[:2]


def footprint(deaths: int) -> Footprint:
    return Footprint(deaths, resident_bytes(), len(asyncio.all_tasks()), descriptors(), len(gc.get_objects()))


async def hunt(restarts: int) -> list[tuple[str, Footprint, Footprint]]:
    """What was held early and at the end of each part."""
    found: list[tuple[str, Footprint, Footprint]] = []
    for strategy in get_args(Strategy):
        early, late = await together(strategy, restarts // 4)
        found.append((strategy, early, late))
    early, late = await dynamic(restarts // 4)
    return [*found, ("dynamic", early, late)]


def main() -> int:
    """Restarts and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    chosen = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    begun = time.monotonic()
    document: dict[str, object] = {"restarts": chosen.restarts}
    clean = True
    for part, early, late in asyncio.run(hunt(chosen.restarts)):
        growth = {key: asdict(late)[key] - asdict(early)[key] for key in ("rss", "tasks", "descriptors", "objects")}
        clean = clean and growth["rss"] <= GROWTH_MAX and growth["tasks"] == growth["descriptors"] == 0
        document[part] = {"early": asdict(early), "late": asdict(late), "growth": growth}
    document["seconds"] = round(time.monotonic() - begun, 1)
    print(json.dumps(document, indent=None if chosen.json else 2))  # noqa: T201 # a script prints
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
