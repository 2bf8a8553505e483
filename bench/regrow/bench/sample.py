"""What a number of measured values comes to. Pure."""

import statistics
from collections.abc import Sequence

import msgspec


class Sample(msgspec.Struct, frozen=True):
    """Many values of one measurement, in the unit of the values."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


class Compared(msgspec.Struct, frozen=True):
    """One figure of ours beside its floor: medians over the repeats, and how far ours were apart."""

    ours: float
    floor: float
    ratio: float
    """Ours over the floor's."""
    repeat: int
    spread: float
    """Largest minus smallest of ours over their median."""


def sample(values: Sequence[float]) -> Sample:
    """Quantiles of at least one value, to three digits behind the point."""
    found = (quantile(values, share) for share in (0.5, 0.95, 0.99, 1.0))
    return Sample(len(values), *(round(value, 3) for value in found))


SHARES = (0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0)
"""Where a distribution of latencies is looked at: as an HDR histogram prints it, but exact, for all values are kept."""


def percentiles(values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """The value that each of ``SHARES`` of all values, of at least one, does not exceed; the last is the largest."""
    ordered = sorted(values)
    return tuple((each, ordered[_place(len(ordered), each)]) for each in SHARES)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[_place(len(ordered), share)]


def _place(count: int, share: float) -> int:
    return min(count - 1, max(0, -int(-count * share // 1) - 1))


def compared(ours: Sequence[float], floors: Sequence[float]) -> Compared:
    """The medians of both, and their ratio."""
    value, floor = statistics.median(ours), statistics.median(floors)
    spread = (max(ours) - min(ours)) / value
    return Compared(round(value, 3), round(floor, 3), round(value / floor, 3), len(ours), round(spread, 3))
