"""An actor with 1,000,000 events and no snapshot: its recovery beside the raw read, what a snapshot makes of it, and the disk.

Every event is a record of its own. Prints events a second of recovery and raw read, the time of the first ask once the log is
rolled up, the bytes of the log before and after, and what actors of one live state take on disk after few turns and after many.
Exits 1 when recovery reaches less than half of the raw read, or an ask to a rolled-up actor takes more than 20 ms (median).

    python bench/large_log.py
    python bench/large_log.py --events 20000 --repeat 1 --actors 0 --json

It takes about eight minutes, more than two of them for the server to clean up its files (none with ``--actors 0``). It stops what
it starts.
"""

import asyncio
import sys

import msgspec

from regrow.actors.logs import log_to_stderr
from regrow.bench.document import options, printed
from regrow.bench.large import Settled, grow, settle

RATIO_MIN = 0.5
ACTIVATION_MS_MAX = 20.0
TURNS = (10, 100, 1_000)


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The second document."""

    v: int = 1
    actors: int
    after: list[Settled]


def main() -> int:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--activations", type=int, default=20)
    parser.add_argument("--actors", type=int, default=100, help="whose disk use is compared; 0 leaves that out")
    parser.add_argument("--wait", type=float, default=150.0, help="seconds for the server to clean up")
    chosen = parser.parse_args()
    log_to_stderr()
    found = asyncio.run(grow(events=chosen.events, repeat=chosen.repeat, activations=chosen.activations))
    print(printed(found, as_json=chosen.json), flush=True)  # noqa: T201 # a script prints
    if chosen.actors:
        after = asyncio.run(settle(actors=chosen.actors, turns=TURNS, wait_s=chosen.wait))
        print(printed(Disk(actors=chosen.actors, after=after), as_json=chosen.json))  # noqa: T201 # a script prints
    fast = found.recovered_per_s.ratio >= RATIO_MIN and found.activation_ms.p50 <= ACTIVATION_MS_MAX
    return 0 if fast else 1


if __name__ == "__main__":
    sys.exit(main())
