"""10,000 durable timers that are due at once: how late they reach their owners, and what a kill of the server does to them.

Prints the 99th percentile of the lateness (due time to arrival at the owner), beside that of as many message schedules of the
server taken by one consumer, and the time until all turns are recorded; then the same with a SIGKILL of the nats-server at the
due time. Exits 1 when a timer was lost or its turn recorded twice, or when the median of the percentiles without the kill is a
second or more.

    python bench/timers_due.py
    python bench/timers_due.py --owners 10000 --names 1 --durability disk --json

It takes about two minutes and stops what it starts.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from regrow.actors.logs import log_to_stderr
from regrow.bench.document import options, printed
from regrow.bench.due import be_due

LATE_MS_MAX = 1_000.0


def main() -> int:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--owners", type=int, default=100)
    parser.add_argument("--names", type=int, default=100, help="timers of each owner")
    parser.add_argument("--lead", type=float, default=8.0, help="seconds from the first timer set until all are due")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--durability", choices=["disk", "process"], default="process")
    chosen = parser.parse_args()
    log_to_stderr()
    with tempfile.TemporaryDirectory(prefix="regrow-timers-") as folder:
        found = asyncio.run(
            be_due(
                Path(folder),
                owners=chosen.owners,
                names=chosen.names,
                lead_s=chosen.lead,
                repeat=chosen.repeat,
                durability=chosen.durability,
            )
        )
    print(printed(found, as_json=chosen.json))  # noqa: T201 # a script prints
    right = not found.twice and not found.lost and found.late_p99_ms.ours < LATE_MS_MAX
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
