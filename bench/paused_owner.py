"""SIGSTOP of an owner past its lease and past the de-duplication window, takeover, SIGCONT: what the old one still does.

It is stopped in the middle of relaying many sends, with asks under way, and goes on while asks and queries come in. Counts its
writes that were accepted after the new one's first, sends and asks that were applied twice or lost, and queries that it answered
from an old state. Exits 1 when any of them is not 0.

    python bench/paused_owner.py
    python bench/paused_owner.py --window 3 --sends 4000 --after 5 --json

By default the window is the real one, and it takes about two and a half minutes. It stops what it starts.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from regrow.actors.logs import log_to_stderr
from regrow.bench.document import options, printed
from regrow.bench.paused import pause
from regrow.bus.streams import DEDUPLICATION_S


def main() -> int:
    """Runs, counts and prints."""
    parser = options(__doc__)
    parser.add_argument(
        "--window", type=float, default=float(DEDUPLICATION_S), help="of the streams made here, seconds"
    )
    parser.add_argument("--sends", type=int, default=16_000)
    parser.add_argument("--after", type=float, default=15.0, help="seconds that the old owner goes on under load")
    parser.add_argument("--durability", choices=["disk", "process"], default="process")
    chosen = parser.parse_args()
    log_to_stderr()
    with tempfile.TemporaryDirectory(prefix="regrow-paused-") as folder:
        found = asyncio.run(
            pause(
                Path(folder),
                window_s=chosen.window,
                sends=chosen.sends,
                after_s=chosen.after,
                durability=chosen.durability,
            )
        )
    print(printed(found, as_json=chosen.json))  # noqa: T201 # a script prints
    return 0 if found.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
