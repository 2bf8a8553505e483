"""What a parked actor with a full mailbox costs its neighbours: asks to actors of its shard with it and without it, by turns.

1,000 messages of the outside wait for it (the next one is refused at its publisher) and 10,000 relays of other actors, while it
waits in its handler. Prints p50 and p99 of asks from another connection to neighbours; exits 1 when the p99 with the parked
actor is more than 1.5 times that without it (medians of the repeats).

    python bench/parked_neighbour.py
    python bench/parked_neighbour.py --durability disk --json

It takes about two minutes and stops what it starts.
"""

import asyncio
import sys

from regrow.actors.logs import log_to_stderr
from regrow.bench.document import options, printed
from regrow.bench.parked import park

RATIO_MAX = 1.5


def main() -> int:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--asks", type=int, default=4_000, help="asks in each measurement")
    parser.add_argument("--relays", type=int, default=10_000, help="relays of other actors that wait")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--durability", choices=["disk", "process"], default="process")
    chosen = parser.parse_args()
    log_to_stderr()
    found = asyncio.run(
        park(asks=chosen.asks, relays=chosen.relays, repeat=chosen.repeat, durability=chosen.durability)
    )
    print(printed(found, as_json=chosen.json))  # noqa: T201 # a script prints
    return 0 if found.p99_ms.ratio <= RATIO_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
