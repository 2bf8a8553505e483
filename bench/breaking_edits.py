"""Many runs wait in the middle of their handlers, then the code is edited in three ways, each of which breaks a fifth of them.

``regrow check`` has to name exactly those, with exit code 7, for each edit and for all of them; then the edited application is
started, and exactly those have to wait with trouble while all others end. Exits 1 when it is otherwise.

    python bench/breaking_edits.py
    python bench/breaking_edits.py --runs 200 --durability disk --json

It takes about a quarter of a minute and stops what it starts.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from regrow.actors.logs import log_to_stderr
from regrow.bench.breaking import break_runs
from regrow.bench.document import options, printed


def main() -> int:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--durability", choices=["disk", "process"], default="process")
    chosen = parser.parse_args()
    log_to_stderr()
    with tempfile.TemporaryDirectory(prefix="regrow-breaking-") as folder:
        found = asyncio.run(break_runs(Path(folder), runs=chosen.runs, durability=chosen.durability))
    print(printed(found, as_json=chosen.json))  # noqa: T201 # a script prints
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
