"""A handler of 2,000 steps whose process is killed at step 1,990 while the server stays up: how soon a new process is done with it.

Prints the time from the start of the new process to the reply, beside a process that only reads the same log raw, where the time
goes, how many recorded steps ran again, and what other engines took. Exits 1 when a recorded step ran again.

    python bench/resume.py
    python bench/resume.py --steps 200 --die-at 190 --repeat 1 --json

It takes about half a minute, and stops what it starts.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from regrow.actors.logs import log_to_stderr
from regrow.bench.document import options, printed
from regrow.bench.peers import RESUME, Peer, table
from regrow.bench.resume import resume


def main() -> int:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--die-at", type=int, default=1_990, help="the step in whose body the process is killed")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="of the workers")
    parser.add_argument("--durability", choices=["disk", "process"], default="disk")
    chosen = parser.parse_args()
    log_to_stderr()
    with tempfile.TemporaryDirectory(prefix="regrow-resume-") as folder:
        found = asyncio.run(
            resume(
                Path(folder),
                steps=chosen.steps,
                die_at=chosen.die_at,
                repeat=chosen.repeat,
                loop=chosen.loop,
                durability=chosen.durability,
            )
        )
    print(printed(found, as_json=chosen.json))  # noqa: T201 # a script prints
    if not chosen.json:
        ours = Peer("regrow", found.done_s.ours, found.recorded_again)
        floor = Peer("process and raw read", found.done_s.floor, None)
        print(table([ours, floor], RESUME))  # noqa: T201 # a script prints
    return 1 if found.recorded_again else 0


if __name__ == "__main__":
    sys.exit(main())
