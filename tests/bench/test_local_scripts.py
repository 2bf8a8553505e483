"""The scripts that measure many or flooded local actors, each once at a tiny size."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

BENCH = Path(__file__).parents[2] / "bench"


def run(name: str, *options: str) -> dict[str, Any]:
    """The document that a script prints; its verdict is about speed and is left alone."""
    command = [sys.executable, str(BENCH / name), *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done.stderr
    return msgspec.json.decode(done.stdout, type=dict[str, Any])


def test_tells_for_ever_handles_all_and_leaves_no_task_or_descriptor() -> None:
    found = run("tells_for_ever.py", "--tells", "1000000")
    assert (found["tells"], found["restarts"], found["tasks_left"], found["descriptors_left"]) == (1_000_000, 1, 0, 0)


def test_a_crowd_is_spawned_and_asked_twice() -> None:
    found = run("million_actors.py", "--actors", "2000")
    assert found["actors"] == 2_000
    assert found["state_bytes"] > 0
    assert found["ask_again_us"] > 0


def test_neighbours_are_asked_beside_a_flood_and_without_it() -> None:
    found = run("fair_neighbours.py", "--asks", "200", "--repeat", "1")
    assert found["flood_per_s"] > 0
    for which in ("plain_alone_us", "awaiting_alone_us", "plain_many_us", "awaiting_many_us"):
        assert found[which]["ours"] > 0
