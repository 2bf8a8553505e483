"""100 runs in flight, their worker killed and started again while the server stays up: what runs twice, and how soon they go on.

Prints the time from the start of the new process to the first new step, beside a process that only reads one log raw, where that
time goes, and how many finished steps ran again, beside other engines. Exits 1 when a recorded step ran again, when fewer steps
were recorded than there should be, or when the first new step took more than 0.3 s (median).

    python bench/in_flight.py
    python bench/in_flight.py --runs 5 --steps 10 --finished 20 --repeat 1 --json

It takes about half a minute, and stops what it starts.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from regrow.actors.logs import log_to_stderr
from regrow.bench.document import options, printed
from regrow.bench.in_flight import fly
from regrow.bench.peers import IN_FLIGHT, Peer, table

FIRST_STEP_S_MAX = 0.3


def main() -> int:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100, help="of each run")
    parser.add_argument("--finished", type=int, default=1_000, help="steps that are over when the worker is killed")
    parser.add_argument("--pause", type=int, default=20, help="milliseconds that a step takes")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="of the workers")
    parser.add_argument("--durability", choices=["disk", "process"], default="disk")
    parser.add_argument("--cli", action="store_true", help="start the workers with `regrow run`")
    chosen = parser.parse_args()
    log_to_stderr()
    with tempfile.TemporaryDirectory(prefix="regrow-in-flight-") as folder:
        found = asyncio.run(
            fly(
                Path(folder),
                runs=chosen.runs,
                steps=chosen.steps,
                finished=chosen.finished,
                pause_ms=chosen.pause,
                repeat=chosen.repeat,
                loop=chosen.loop,
                durability=chosen.durability,
                by_cli=chosen.cli,
            )
        )
    print(printed(found, as_json=chosen.json))  # noqa: T201 # a script prints
    if not chosen.json:
        print(table([Peer("regrow", None, found.recorded_again)], IN_FLIGHT))  # noqa: T201 # a script prints
    right = found.recorded_again == 0 and found.recorded_min >= chosen.finished
    return 0 if right and found.first_step_s.ours <= FIRST_STEP_S_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
