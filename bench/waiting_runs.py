"""Runs that wait: the way back of one with 1,000 recorded steps to where it waited, and the memory of many.

Prints how long it takes on a new host from the arrival of its message until it waits again, beside a raw read of its log; and the
memory of a run that waits in a tool, of one that waits for another actor (both of them), of one that sleeps and was suspended, and
of one that was dropped because nothing was left to do, by the files that made it. Exits 1 when the way back takes more than 30 ms
(median), a run that waits in a tool more than 20 KB beside its data, or one that was suspended or dropped more than 1 KB.

    python bench/waiting_runs.py
    python bench/waiting_runs.py --steps 100 --repeat 2 --runs 0

It takes about two minutes, and stops what it starts.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from regrow.actors.logs import log_to_stderr
from regrow.bench.document import options, printed
from regrow.bench.run import loop_factory
from regrow.bench.waiting import Remembered, remember, replay

BACK_MS_MAX = 30.0
LOADED_BYTES_MAX = 20 * 1024
UNLOADED_BYTES_MAX = 1024
"""Not 0: the addresses of the last 16,384 actors are remembered, however many there are."""


def main() -> int:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=11)
    parser.add_argument("--runs", type=int, default=10_000, help="whose memory is measured; 0 leaves that out")
    parser.add_argument("--traced", type=int, default=2_000, help="runs whose memory is traced to its files")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="of the replay")
    parser.add_argument("--durability", choices=["disk", "process"], default="process", help="of the replay")
    chosen = parser.parse_args()
    log_to_stderr()
    with (
        tempfile.TemporaryDirectory(prefix="regrow-waiting-") as folder,
        asyncio.Runner(loop_factory=loop_factory(chosen.loop)) as runner,
    ):
        back = runner.run(replay(Path(folder), steps=chosen.steps, repeat=chosen.repeat, durability=chosen.durability))
    print(printed(back, as_json=chosen.json), flush=True)  # noqa: T201 # a script prints
    soon = back.back_ms.ours <= BACK_MS_MAX
    if not chosen.runs:
        return 0 if soon else 1
    memory = asyncio.run(remember(runs=chosen.runs, traced_runs=chosen.traced))
    print(printed(memory, as_json=True) if chosen.json else _table(memory))  # noqa: T201 # a script prints
    return 0 if soon and _fits(memory) else 1


def _fits(found: Remembered) -> bool:
    by_mode = {each.mode: each.rss_bytes for each in found.memory}
    gone = max(by_mode["suspended"], by_mode["unloaded"])
    return by_mode["tool"] - found.data_bytes <= LOADED_BYTES_MAX and gone <= UNLOADED_BYTES_MAX


def _table(found: Remembered) -> str:
    lines = [f"data: {found.data_bytes} bytes a run"]
    for each in found.memory:
        lines.append(f"{each.mode}: {each.rss_bytes:,} bytes a run of {each.runs:,}, traced {each.traced_bytes:,}")
        lines += [f"  {size:>8,}  {name}" for name, size in each.by_file.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
