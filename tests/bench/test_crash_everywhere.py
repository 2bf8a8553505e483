"""A sample of what bench/crash_everywhere.py tries whole: deaths drawn anew each time, in the catalogue run and with its lots at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regrow.bench.crash_catalogue import Slice, without_order
from regrow.testing import crash_points

pytestmark = pytest.mark.asyncio

POINTS = 20


@pytest.mark.parametrize(
    ("lots_at_once", "compared"),
    [(1, {"witness": True}), (2, {"witness": False, "view": without_order})],
    ids=["one lot after the other", "two lots at once"],
)
async def test_a_catalogue_run_comes_to_the_same_cards_after_any_death(
    lots_at_once: int,
    compared: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setenv("REGROW_CATALOG", "")  # the slice sets it anew for each run
    run = Slice(tmp_path, products=3, lots_at_once=lots_at_once)
    report = await crash_points(run.system, run.scenario, points=POINTS, **compared)
    record_property("report", str(report))
    assert report.ok, report
    assert report.points + len(report.unreached) == POINTS
    assert report.possible > 300


async def test_a_slice_researches_every_product_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_CATALOG", "")
    run = Slice(tmp_path, products=3, lots_at_once=1)
    found: list[Any] = []

    async def scenario(outside: Any) -> None:
        found.append(await run.scenario(outside))

    assert (await crash_points(run.system, scenario, points=0)).ok
    assert all(each.status.products_done == len(each.cards) == 3 and each.answer.answer_id for each in found)
    assert len(found) == 2
