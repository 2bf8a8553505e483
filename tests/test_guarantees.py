"""Each test and each script that the page of guarantees names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")


def test_each_guarantee_names_a_test_that_is_there() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) > 30
    assert [name for name in named if f"def {name}(" not in tests] == []


def test_each_script_that_shows_a_guarantee_is_there() -> None:
    named = set(re.findall(r"`(bench/\w+\.py)`", PAGE))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_each_row_names_what_shows_it() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "shown by" not in line]
    assert [row for row in rows if not re.search(r"`(test_\w+|bench/\w+\.py)`", row)] == []
