"""Kills ``regrow index`` with SIGKILL at random moments, starts it again each time, and compares what comes out in the end.

The same catalogue is indexed undisturbed, which says how long it takes; killed once, which says how long a start after a kill
takes; and killed at random. Each run lives a random time, from half a start to so long that the kills together leave time for
most of the work: they hit the start, the recovery and the work. A kill ends the command alone; its server and its tool process
have to notice by themselves. Should a run reach its end before all kills have come, another store is begun for those that are
left. The exports of all stores must be the same bytes.

    python bench/kill_and_compare.py --kills 20 --products 1000 --seed 1

Prints one JSON line; exits 1 when the bytes differ.
"""

import argparse
import hashlib
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DONE_AT_LAST_KILL = 0.67
"""The share of the work that is expected to be done when the last kill comes."""


def main() -> int:
    """Compares and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--products", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="regrow-kills-") as folder:
        undisturbed = Index(Path(folder, "undisturbed"), chosen.products)
        undisturbed_s = undisturbed.finish()
        probe = Index(Path(folder, "probe"), chosen.products)
        probe.killed_after(undisturbed_s / 2)
        start_s = probe.first_word()
        between_s = lives(undisturbed_s, start_s=start_s, kills=chosen.kills)
        say(f"undisturbed: {undisturbed_s:.1f} s, {start_s:.1f} s to start after a kill")
        say(f"each run now lives {between_s[0]:.1f} to {between_s[1]:.1f} s")
        disturbed, lived = disturb(Path(folder), chosen, between_s)
        expected, found = undisturbed.exported(), {each.exported() for each in (probe, *disturbed)}
    document = {
        "v": 1,
        "kills": chosen.kills,
        "products": chosen.products,
        "sha256_undisturbed": expected,
        "sha256_killed": " ".join(sorted(found)),
        "equal": found == {expected},
        "seconds": round(time.monotonic() - began, 1),
        "seed": chosen.seed,
        "kills_at_work": sum(life_s > start_s for life_s in lived),
        "stores": len(disturbed),
        "undisturbed_seconds": round(undisturbed_s, 1),
    }
    print(json.dumps(document))  # noqa: T201 # a script prints
    return 0 if document["equal"] else 1


class Index:
    """``regrow index`` on a store of its own."""

    def __init__(self, store: Path, products: int) -> None:
        self._store = store
        self._products = products

    def finish(self) -> float:
        """Runs it to its end; how long that took, in seconds."""
        began = time.monotonic()
        process = self._start()
        _, said = process.communicate()
        self._check(process, said)
        return time.monotonic() - began

    def first_word(self) -> float:
        """Runs it to its end; after how many seconds it said how far it was: from there on it works."""
        began = time.monotonic()
        process = self._start()
        assert process.stderr is not None
        any(line.startswith(b"products researched") for line in process.stderr)
        took_s = time.monotonic() - began
        _, said = process.communicate()
        self._check(process, said)
        return took_s

    def killed_after(self, life_s: float) -> bool:
        """Runs it and kills it after this time; False when it has reached its end before."""
        process = self._start()
        try:
            _, said = process.communicate(timeout=life_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return process.returncode < 0
        self._check(process, said)
        return False

    def exported(self) -> str:
        """SHA-256 of the exported cards."""
        command = [sys.executable, "-m", "regrow.cli", "export", "--json", "--store", str(self._store)]
        return hashlib.sha256(subprocess.run(command, check=True, capture_output=True).stdout).hexdigest()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "regrow.cli", "index", "--json", "--store", str(self._store)]
        command += ["--products", str(self._products)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def _check(self, process: subprocess.Popen[bytes], said: bytes) -> None:
        if process.returncode != 0:
            raise SystemExit(f"regrow index ended with {process.returncode}:\n{said.decode(errors='replace')}")


def lives(whole_s: float, *, start_s: float, kills: int) -> tuple[float, float]:
    """The shortest and the longest life of a run, so that runs of random lives do their share of the work between them.

    The first ``start_s`` of a life are no work; the shortest life is half of it. A life drawn evenly works
    (longest - start)² / (2 (longest - shortest)) on average; that is the share of one kill, and this solves it for the longest.
    """
    share_s = DONE_AT_LAST_KILL * max(whole_s - start_s, 0.1) / kills
    shortest_s = start_s / 2
    return shortest_s, start_s + share_s + math.sqrt(share_s**2 + 2 * share_s * (start_s - shortest_s))


def disturb(
    folder: Path, chosen: argparse.Namespace, between_s: tuple[float, float]
) -> tuple[list[Index], list[float]]:
    """Stores whose runs were killed that often between them and then finished; how long each killed run had lived, seconds."""
    draw = random.Random(chosen.seed)
    stores: list[Index] = []
    lived: list[float] = []
    while len(lived) < chosen.kills:
        index = Index(folder / f"killed-{len(stores)}", chosen.products)
        stores.append(index)
        while len(lived) < chosen.kills and index.killed_after(life_s := draw.uniform(*between_s)):
            lived.append(life_s)
            say(f"kill {len(lived)} after {life_s:.2f} s")
        say(f"run to its end, which took {index.finish():.1f} s more")
    return stores, lived


def say(text: str) -> None:
    """A line for the person who watches."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 # a script prints


if __name__ == "__main__":
    sys.exit(main())
