"""What a benchmark found: one JSON line per metric, its value beside a floor measured in the same process. Pure."""

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

VERSION = 1
"""The ``v`` of every line; its keys are fixed."""

Better = Literal["higher", "lower"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One metric. ``value`` and ``floor`` are medians over the repeats."""

    v: int = VERSION
    bench: str
    metric: str
    value: float
    unit: str
    floor: float
    """The same work done with the least that could do it, in the same unit."""
    ratio: float
    """Our speed over the floor's, for times the floor's time over ours: higher is better, 1 is as fast as the floor."""
    repeat: int
    spread: float
    """Largest minus smallest value over the median: how far to trust the line."""
    loop: str
    """The event loop: ``asyncio`` or ``uvloop``."""


def result(
    bench: str, metric: str, unit: str, ours: Sequence[float], floors: Sequence[float], *, loop: str, better: Better
) -> Result:
    """The line for what was measured: one value and one floor per repeat, none of them 0."""
    value, floor = statistics.median(ours), statistics.median(floors)
    return Result(
        bench=bench,
        metric=metric,
        value=round(value, 2),
        unit=unit,
        floor=round(floor, 2),
        ratio=round(value / floor if better == "higher" else floor / value, 3),
        repeat=len(ours),
        spread=round((max(ours) - min(ours)) / value, 3),
        loop=loop,
    )
