"""A million local actors: spawned, each asked once, all idle in memory; the seconds and the bytes.

They are named, supervised, with bounded mailboxes; the resident memory of the process is looked at before and after, and their
state (the instance and what it holds) is measured beside it. Exits 1 when they took more than 8 s, or more than 700 bytes each
over their state.

    python bench/million_actors.py
    python bench/million_actors.py --actors 50000 --json

It takes about ten seconds and 600 MiB.
"""

import asyncio
import sys
import time

import msgspec

from regrow.actors import LocalSystem
from regrow.actors.logs import log_to_stderr
from regrow.bench.actors import Add, LocalCounter
from regrow.bench.document import options, printed
from regrow.bench.resident import resident_bytes
from regrow.bench.run import loop_factory

BYTES_MAX = 700
SECONDS_MAX = 8.0
PER_ACTOR_S = SECONDS_MAX / 1_000_000

_ONE = Add(amount=1)


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """What so many actors took."""

    v: int = 1
    actors: int
    loop: str
    seconds: float
    rss_bytes: float
    """Of the process, for each actor: with its state, its name and the reference to it that is kept."""
    state_bytes: int
    """Of that, the instance with its field."""
    ask_again_us: float
    """For each, when all of them are asked once more."""

    @property
    def is_small(self) -> bool:
        return self.rss_bytes - self.state_bytes <= BYTES_MAX and self.seconds <= self.actors * PER_ACTOR_S


def _state_bytes() -> int:
    counter = LocalCounter()
    counter.total = 1
    return sys.getsizeof(counter) + sys.getsizeof(vars(counter)) + sys.getsizeof(1_000)


async def crowd(many: int, loop: str) -> Crowd:
    """Spawns them, and asks them all twice."""
    async with LocalSystem("crowd") as system:
        before, begun = resident_bytes(), time.perf_counter()
        for number in range(many):
            await system.spawn(LocalCounter, str(number)).ask(_ONE)
        seconds, after = time.perf_counter() - begun, resident_bytes()
        begun = time.perf_counter()
        for number in range(many):
            assert await system.ref(LocalCounter, str(number)).ask(_ONE) == 2
        again_s = time.perf_counter() - begun
    return Crowd(
        actors=many,
        loop=loop,
        seconds=round(seconds, 2),
        rss_bytes=round((after - before) / many, 1),
        state_bytes=_state_bytes(),
        ask_again_us=round(again_s / many * 1e6, 2),
    )


def main() -> int:
    """Spawns and prints."""
    parser = options(__doc__)
    parser.add_argument("--actors", type=int, default=1_000_000)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    chosen = parser.parse_args()
    log_to_stderr()
    with asyncio.Runner(loop_factory=loop_factory(chosen.loop)) as runner:
        found = runner.run(crowd(chosen.actors, chosen.loop))
    print(printed(found, as_json=chosen.json))  # noqa: T201 # a script prints
    return 0 if found.is_small else 1


if __name__ == "__main__":
    sys.exit(main())
