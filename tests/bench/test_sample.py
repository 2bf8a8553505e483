"""Quantiles and medians of what was measured, and how they are printed."""

import json

from regrow.bench.document import options, printed
from regrow.bench.due import Due
from regrow.bench.sample import Compared, Sample, compared, quantile, sample


def test_a_quantile_is_the_smallest_value_that_this_share_does_not_exceed() -> None:
    values = list(range(100, 0, -1))
    assert [quantile(values, share) for share in (0.0, 0.5, 0.95, 0.99, 1.0)] == [1, 50, 95, 99, 100]
    assert quantile([7.0], 0.99) == 7.0


def test_a_sample_is_four_quantiles() -> None:
    assert sample([3.0, 1.0, 2.0]) == Sample(3, 2.0, 3.0, 3.0, 3.0)


def test_two_sides_are_compared_by_their_medians() -> None:
    assert compared([1.0, 2.0, 9.0], [1.0, 4.0, 5.0]) == Compared(2.0, 4.0, 0.5, 3, 4.0)


def test_a_document_is_one_line_of_json_or_a_line_for_each_of_its_fields() -> None:
    few = sample([1.0, 2.0])
    found = Due(
        timers=10_000,
        owners=100,
        durability="process",
        late_p99_ms=compared([3.0], [2.0]),
        late_p99_each_ms=[3.0],
        recorded_s=[1.0],
        set_s=[1.0],
        last_late_ms=few,
        killed_late_ms=few,
        killed_recorded_s=2.0,
        twice=0,
        lost=0,
        loop="asyncio",
    )
    assert json.loads(printed(found, as_json=True))["late_p99_ms"]["ratio"] == 1.5
    lines = printed(found, as_json=False).splitlines()
    assert lines[0] == "timers: 10,000"
    assert "late p99 ms: 3.0 (floor 2.0, ratio 1.50, median of 1, spread 0%)" in lines
    assert "last late ms: p50 1.0, p95 2.0, p99 2.0, max 2.0 of 2" in lines


def test_every_measuring_script_takes_json() -> None:
    assert options("Measures.\n\nMuch.").parse_args(["--json"]).json is True
