"""How the numbers of a category are spread, and where one product stands among its like.

Pure functions over frozen values.
"""

import bisect
import math
from collections.abc import Iterable, Sequence

import msgspec

from regrow.agents.product import Product

VALUES_MIN = 5
"""A nutrient that fewer products of the category give has no statistics: quartiles of four values say nothing."""


class Spread(msgspec.Struct, frozen=True):
    """One nutrient over a category: how many products give it, their mean, and eleven points from least to most.

    `deciles[0]` is the least value, `deciles[5]` the median, `deciles[10]` the most; quartiles are the first
    and third. Points between two values are interpolated (numpy's "linear", type 7 of Hyndman and Fan).
    """

    count: int
    mean: float
    quartiles: tuple[float, float, float]
    deciles: tuple[float, ...]


class CategoryStatistics(msgspec.Struct, frozen=True):
    """The spread of each nutrient that at least `VALUES_MIN` products of a category give."""

    category: str
    products: int
    nutrients: dict[str, Spread]


def category_statistics(category: str, products: Iterable[Product]) -> CategoryStatistics:
    """The statistics of the products of one category, nutrients in order of their names."""
    columns: dict[str, list[float]] = {}
    count = 0
    for product in products:
        count += 1
        for nutrient, value in product.nutrients.items():
            columns.setdefault(nutrient, []).append(value)
    spreads = {name: spread(columns[name]) for name in sorted(columns) if len(columns[name]) >= VALUES_MIN}
    return CategoryStatistics(category, count, spreads)


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value; rounded to four decimals, finer than any label."""
    ordered = sorted(values)
    return Spread(
        count=len(ordered),
        mean=round(math.fsum(ordered) / len(ordered), 4),
        quartiles=(_point(ordered, 0.25), _point(ordered, 0.5), _point(ordered, 0.75)),
        deciles=tuple(_point(ordered, tenth / 10) for tenth in range(11)),
    )


def percentiles(product: Product, statistics: CategoryStatistics) -> dict[str, int]:
    """For each nutrient of the product the share of its category that has less, in whole percent.

    Read off the deciles, straight between two of them; where many products share the value it is the middle
    of their places, so 50 means "like most".
    """
    return {
        nutrient: percentile(product.nutrients[nutrient], spread)
        for nutrient, spread in statistics.nutrients.items()
        if nutrient in product.nutrients
    }


def percentile(value: float, spread: Spread) -> int:
    """The place of a value in a spread, 0 to 100."""
    points = spread.deciles
    below, above = bisect.bisect_left(points, value), bisect.bisect_right(points, value)
    if below < above:
        return round(10 * (below + above - 1) / 2)
    if above == 0:
        return 0
    if below == len(points):
        return 100
    low, high = points[below - 1], points[below]
    return round(10 * (below - 1 + (value - low) / (high - low)))


def _point(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return round(ordered[low] + (ordered[high] - ordered[low]) * (place - low), 4)
