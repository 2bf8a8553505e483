"""1,000,000 records over 10,000 actors, interleaved in 16 streams: cold actors recover at 100 per second while others append.

Prints the median append of the others alone and beside the recoveries, the time of a recovery before and after the logs were
rolled up, and the same of raw appends and raw reads. Exits 1 when recoveries make the appends take more than 4 times as long.

    python bench/cold_recovery.py
    python bench/cold_recovery.py --actors 1000 --rounds 20 --seconds 1 --json

It takes four to five minutes and stops what it starts.
"""

import asyncio
import sys

from regrow.actors.logs import log_to_stderr
from regrow.bench.cold import cool
from regrow.bench.document import options, printed

TIMES_MAX = 4.0


def main() -> int:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--actors", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=100, help="records of each actor")
    parser.add_argument("--per-s", type=float, default=100.0, help="recoveries begun in a second")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--durability", choices=["disk", "process"], default="process")
    chosen = parser.parse_args()
    log_to_stderr()
    found = asyncio.run(
        cool(
            actors=chosen.actors,
            rounds=chosen.rounds,
            per_s=chosen.per_s,
            seconds=chosen.seconds,
            repeat=chosen.repeat,
            durability=chosen.durability,
        )
    )
    print(printed(found, as_json=chosen.json))  # noqa: T201 # a script prints
    return 0 if found.before.times <= TIMES_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
