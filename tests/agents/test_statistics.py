from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.agents.product import Product
from regrow.agents.statistics import VALUES_MIN, category_statistics, percentile, percentiles, spread

amounts = st.floats(0, 100_000)


def test_a_spread_has_the_points_of_linear_interpolation() -> None:
    found = spread([4.0, 1.0, 3.0, 2.0])
    assert (found.count, found.mean, found.quartiles) == (4, 2.5, (1.75, 2.5, 3.25))
    assert (found.deciles[0], found.deciles[5], found.deciles[10]) == (1.0, 2.5, 4.0)


def test_a_nutrient_that_few_products_give_has_no_statistics(food: Callable[..., Product]) -> None:
    few = [food(str(n), Sodium=n, Iron=n) for n in range(VALUES_MIN - 1)]
    statistics = category_statistics("Cheese", [*few, food("x", Sodium=9)])
    assert (statistics.products, list(statistics.nutrients)) == (VALUES_MIN, ["Sodium"])


@pytest.mark.parametrize(("value", "place"), [(-1.0, 0), (0.0, 0), (25.0, 25), (50.0, 50), (100.0, 100), (101.0, 100)])
def test_a_percentile_is_read_off_the_deciles(value: float, place: int) -> None:
    assert percentile(value, spread([float(n) for n in range(101)])) == place


def test_where_many_share_a_value_its_place_is_the_middle_of_theirs() -> None:
    assert percentile(0.0, spread([0.0] * 60 + [float(n) for n in range(1, 41)])) == 25
    assert percentile(7.0, spread([7.0] * 5)) == 50


@given(st.lists(amounts, min_size=1), amounts, amounts)
def test_more_is_never_a_lower_percentile(values: list[float], one: float, other: float) -> None:
    found = spread(values)
    less, more = percentile(min(one, other), found), percentile(max(one, other), found)
    assert 0 <= less <= more <= 100


def test_percentiles_are_given_for_what_both_give(food: Callable[..., Product]) -> None:
    statistics = category_statistics("Cheese", [food(str(n), Sodium=n, Iron=1) for n in range(11)])
    assert percentiles(food("x", Sodium=3, Zinc=1), statistics) == {"Sodium": 30}
