"""A hundred million tells to local actors: what they leave behind in memory, and what they cost.

Tells go to a thousand actors in turn, in bursts of a hundred, and now and then one fails and is restarted. Resident memory is
looked at after a tenth of them (until then caches fill) and at the end. Exits 1 when it grew by more than 1 MiB between, or a
task or a descriptor was left.

    python bench/tells_for_ever.py
    python bench/tells_for_ever.py --tells 1000000 --json

It takes about half a minute.
"""

import asyncio
import sys
import time

import msgspec

from regrow.actors import LocalActor, LocalPolicy, LocalRef, LocalSystem, Message, command
from regrow.actors.logs import log_to_stderr
from regrow.bench.actors import Add
from regrow.bench.document import options, printed
from regrow.bench.resident import descriptors, resident_bytes
from regrow.bench.run import loop_factory
from regrow.supervisor import Backoff, Intensity

GROWTH_MAX = 2**20
ACTORS = 1_000
BURST = 100
FAILS_EVERY = 1_000_000
"""Tells between two failures."""

_ONE = Add(amount=1)


class Fail(Message[None]):
    """Has its receiver die."""


class Counter(LocalActor):
    """Counts until it dies."""

    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.total += msg.amount
        return self.total

    @command
    async def fail(self, msg: Fail) -> None:
        raise RuntimeError("as told")


class Endured(msgspec.Struct, frozen=True, kw_only=True):
    """What was done and what it left."""

    v: int = 1
    tells: int
    restarts: int
    per_s: float
    early_rss_bytes: int
    rss_bytes: int
    grown_bytes: int
    tasks_left: int
    descriptors_left: int

    @property
    def is_sound(self) -> bool:
        return self.grown_bytes <= GROWTH_MAX and not self.tasks_left and self.descriptors_left <= 0


async def endure(tells: int) -> Endured:
    """Tells that often, and looks."""
    tasks, open_before = len(asyncio.all_tasks()), descriptors()
    lasting = LocalPolicy(backoff=Backoff(first_s=0.0), intensity=Intensity(1_000_000, per_s=1.0))
    told, early, begun = 0, 0, time.perf_counter()
    async with LocalSystem("endless") as system:
        actors = [system.spawn(Counter, str(number), policy=lasting) for number in range(ACTORS)]
        fails = 0
        while told < tells:
            for actor in actors:
                for _ in range(BURST - 1):
                    actor.tell(_ONE)
                await actor.ask(_ONE)
            told += ACTORS * BURST
            if told // FAILS_EVERY > fails:
                fails += 1
                await _restarted(actors[fails % ACTORS])
            if not early and told >= tells // 10:
                early = resident_bytes()
        took_s, late = time.perf_counter() - begun, resident_bytes()
        restarts = sum(actor.restarts for actor in actors)
    return Endured(
        tells=told,
        restarts=restarts,
        per_s=round(told / took_s),
        early_rss_bytes=early,
        rss_bytes=late,
        grown_bytes=late - early,
        tasks_left=len(asyncio.all_tasks()) - tasks,
        descriptors_left=descriptors() - open_before,
    )


async def _restarted(actor: LocalRef) -> None:
    actor.tell(Fail())
    await actor.ask(_ONE)  # waits for the next incarnation


def main() -> int:
    """Tells and prints."""
    parser = options(__doc__)
    parser.add_argument("--tells", type=int, default=100_000_000)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    chosen = parser.parse_args()
    log_to_stderr()
    with asyncio.Runner(loop_factory=loop_factory(chosen.loop)) as runner:
        found = runner.run(endure(chosen.tells))
    print(printed(found, as_json=chosen.json))  # noqa: T201 # a script prints
    return 0 if found.is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
