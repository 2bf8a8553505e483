"""The same programs in processes that kill themselves at a journal write, on a real server; the script is how a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench" / "random_programs.py"


def found(*arguments: str) -> tuple[int, dict[str, object], str]:
    """Exit code, the last line as JSON, and what the script said."""
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    document: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return done.returncode, document, done.stderr


def test_another_process_goes_on_where_a_killed_one_was() -> None:
    code, document, said = found("--process", "6", "--seed", "40", "--lanes", "2")
    assert (code, document["violations"]) == (0, 0), said
    assert document["points"] in (6, 7)


def test_the_script_tells_a_violation_by_its_seed_and_its_point() -> None:
    code, document, said = found("--programs", "1", "--seed", "2", "--plant", "early", "--no-shrink")
    assert code == 1 and document["violations"]
    assert "seed 2, death" in said and "shown before it was recorded" in said
