from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.agents.nutrition import DAILY_VALUES, Amounts, Difference, compare, energy_check, per_portion
from regrow.agents.portion import parse_portion
from regrow.agents.product import UNITS, Product

Food = Callable[..., Product]


def check(product: Product) -> tuple[str, str]:
    found = energy_check(product, parse_portion(product.portion, product.portion_g))
    return found.verdict, found.why


def test_amounts_are_scaled_to_the_portion_and_to_a_day() -> None:
    cheese = Product("1", "BRIE", nutrients={"Sodium": 600.0, "Protein": 25.0, "price": 3.0})
    assert per_portion(cheese, parse_portion("1 ONZ", 28.0)) == Amounts(
        per_100g={"Protein": 25.0, "Sodium": 600.0},
        portion_g=28.0,
        portion={"Protein": 7.0, "Sodium": 168.0},
        daily_percent={"Protein": 14, "Sodium": 7},
    )


def test_without_the_weight_of_the_portion_there_are_only_the_amounts_for_100_g() -> None:
    amounts = per_portion(Product("1", "BRIE", nutrients={"Sodium": 600.0}), parse_portion("1 WHEEL"))
    assert amounts == Amounts({"Sodium": 600.0}, None, {}, {})


def test_daily_values_are_of_known_columns() -> None:
    assert set(DAILY_VALUES) <= set(UNITS)


def test_a_difference_has_its_sign_and_its_share(food: Food) -> None:
    less, more = compare(food("1", Sodium=640, Protein=20), food("2", Sodium=480, Protein=25), ["Sodium", "Protein"])
    assert less == Difference("Sodium", "mg", 640.0, 480.0, -160.0, -25)
    assert more == Difference("Protein", "g", 20.0, 25.0, 5.0, 25)


def test_from_nothing_there_is_no_share(food: Food) -> None:
    (difference,) = compare(food("1", Sodium=0), food("2", Sodium=5), ["Sodium"])
    assert (difference.change, difference.percent) == (5.0, None)


def test_what_only_one_food_gives_is_no_difference(food: Food) -> None:
    assert compare(food("1", Sodium=1, Iron=1), food("2", Sodium=1, Zinc=1)) == [
        Difference("Sodium", "mg", 1.0, 1.0, 0.0, 0)
    ]


@given(st.floats(0, 100_000), st.floats(0, 100_000))
def test_a_difference_the_other_way_round_has_the_other_sign(one: float, other: float) -> None:
    a, b = Product("1", "a", nutrients={"Sodium": one}), Product("2", "b", nutrients={"Sodium": other})
    assert compare(a, b)[0].change == -compare(b, a)[0].change


def test_the_energy_of_a_real_cheddar_is_plausible(food: Food) -> None:
    cheddar = food("1", Energy=393, Protein=25, Carbohydrate=3.57, Total_fat=32.14)
    assert check(cheddar) == ("plausible", "393 kcal stated, 404 by its macronutrients")


@pytest.mark.parametrize(
    ("energy", "verdict", "why"),
    [
        (900, "implausible", "900 kcal stated, at most 404 by its macronutrients"),
        (100, "implausible", "100 kcal stated, at least 404 by its macronutrients"),
    ],
)
def test_energy_that_the_macronutrients_cannot_give_is_implausible(
    food: Food, energy: float, verdict: str, why: str
) -> None:
    cheddar = food("1", Energy=energy, Protein=25, Carbohydrate=3.57, Total_fat=32.14)
    assert check(cheddar) == (verdict, why)


def test_fibre_may_count_nothing(food: Food) -> None:
    bran = {"Energy": 216, "Protein": 15.5, "Carbohydrate": 64.5, "Total_fat": 4.3}
    assert check(food("1", **bran))[0] == "implausible"
    assert check(food("1", Fiber=42.8, **bran))[0] == "plausible"


def test_a_label_s_rounding_weighs_more_the_smaller_the_portion(food: Food) -> None:
    spice = food("1", Energy=0, Protein=0, Carbohydrate=100, Total_fat=0)
    assert energy_check(spice, parse_portion("1/4 tsp", 1.0)).verdict == "plausible"
    assert energy_check(spice, parse_portion("1 cup", 200.0)).verdict == "implausible"


def test_more_than_100_g_in_100_g_is_implausible_without_any_energy(food: Food) -> None:
    shortening = food("1", Total_fat=284.62, Protein=0)
    assert check(shortening) == ("implausible", "284.62 g of macronutrients in 100 g")


@pytest.mark.parametrize("missing", ["Energy", "Protein", "Carbohydrate", "Total_fat"])
def test_without_one_of_the_numbers_nothing_is_said(food: Food, missing: str) -> None:
    given = {"Energy": 393, "Protein": 25, "Carbohydrate": 3.57, "Total_fat": 32.14}
    del given[missing]
    assert check(food("1", **given)) == ("unknown", "energy or a macronutrient is not given")


def test_nearly_all_of_the_sample_is_plausible(sample: list[Product]) -> None:
    verdicts = [check(product)[0] for product in sample]
    assert verdicts.count("plausible") > 0.9 * len(sample)
    assert 0 < verdicts.count("implausible") < 0.05 * len(sample)
