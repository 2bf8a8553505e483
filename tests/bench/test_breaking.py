"""The measurement of edits that break waiting runs, at a tiny size."""

from pathlib import Path

import pytest

from regrow.bench.breaking import break_runs


@pytest.mark.asyncio
async def test_a_check_names_exactly_the_runs_that_an_edit_breaks_and_those_wait_while_the_others_end(
    tmp_path: Path,
) -> None:
    found = await break_runs(tmp_path, runs=10)
    assert found.good, found
    assert [(each.edits, each.code, each.named, each.kinds) for each in found.checks] == [
        ("none", 0, 0, {}),
        ("swapped", 7, 2, {"drift": 2}),
        ("argument", 7, 2, {"drift": 2}),
        ("event", 7, 2, {"undecodable": 2}),
        ("swapped, argument, event", 7, 6, {"drift": 4, "undecodable": 2}),
    ]
    assert (found.waiting, found.finished) == ({"drift": 4, "corrupt": 2}, 4)
