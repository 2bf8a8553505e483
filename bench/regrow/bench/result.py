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


NOISY = 0.3
"""Ratios of repeats that are this far apart tell nothing about small differences."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A line, and what it was made of: one value of each side per repeat, in the order in which they were measured."""

    line: Result
    ours: tuple[float, ...]
    floors: tuple[float, ...]
    better: Better
    times: tuple[float, ...] = ()
    """Of single calls, in the line's unit, where it is their median that was measured."""
    floor_times: tuple[float, ...] = ()

    @property
    def noise(self) -> float:
        """How far the ratios of the repeats are apart: the largest minus the smallest over their median."""
        ratios = [_ratio(*both, self.better) for both in zip(self.ours, self.floors, strict=True)]
        return (max(ratios) - min(ratios)) / statistics.median(ratios)

    @property
    def is_noisy(self) -> bool:
        """Whether nothing can be concluded from it but an order of magnitude: measure again, on a quieter machine or more often."""
        return self.noise > NOISY


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
        ratio=round(_ratio(value, floor, better), 3),
        repeat=len(ours),
        spread=round((max(ours) - min(ours)) / value, 3),
        loop=loop,
    )


def _ratio(value: float, floor: float, better: Better) -> float:
    return value / floor if better == "higher" else floor / value
