"""What the numbers of a food say: per portion, of a day's value, beside another food, and whether they can be true.

Pure functions over frozen values. Amounts are for 100 g of food unless the name says otherwise.
"""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from regrow.agents.portion import Portion
from regrow.agents.product import UNITS, Product

DAILY_VALUES: Mapping[str, float] = MappingProxyType(
    {
        "Total fat": 78.0,
        "Fatty acids, total saturated": 20.0,
        "Cholesterol": 300.0,
        "Carbohydrate": 275.0,
        "Sodium": 2300.0,
        "Fiber": 28.0,
        "Protein": 50.0,
        "Vitamin A, RAE": 900.0,
        "Vitamin C": 90.0,
        "Calcium": 1300.0,
        "Iron": 18.0,
        "Vitamin D (D2 + D3)": 20.0,
        "Vitamin E": 15.0,
        "Thiamin": 1.2,
        "Riboflavin": 1.3,
        "Niacin": 16.0,
        "Vitamin B-6": 1.7,
        "Folate, total": 400.0,
        "Vitamin B-12": 2.4,
        "Pantothenic acid": 5.0,
        "Phosphorus": 1250.0,
        "Iodine": 150.0,
        "Magnesium": 420.0,
        "Zinc": 11.0,
        "Selenium": 55.0,
        "Copper": 0.9,
        "Manganese": 2.3,
        "Molybdenum": 45.0,
        "Potassium": 4700.0,
        "Choline": 550.0,
    }
)
"""Daily values for adults, in the units of `UNITS`: 21 CFR 101.9(c)(8)(iv) and (c)(9).

Vitamin K is left out: its value is for all forms together, and the columns are for two of them.
"""

_ROUNDED_KCAL = 5.0  # a label rounds energy to 10 kcal a portion: 21 CFR 101.9(c)(1)
_ROUNDED_G = 0.5  # and each macronutrient to 1 g: 101.9(c)(2), (c)(6), (c)(7)
_TOLERANCE = 0.2  # and may be wrong by a fifth: 101.9(g)(5)

Verdict = Literal["plausible", "implausible", "unknown"]


class Amounts(msgspec.Struct, frozen=True):
    """The amounts of one food for 100 g and for its portion, and the portion's share of a day's value in percent.

    `portion` and `daily_percent` are empty where the weight of the portion is not known.
    """

    per_100g: dict[str, float]
    portion_g: float | None
    portion: dict[str, float]
    daily_percent: dict[str, int]


class Difference(msgspec.Struct, frozen=True):
    """One nutrient of two foods, for 100 g each; `percent` is None where the first food has none of it."""

    nutrient: str
    unit: str
    base: float
    other: float
    change: float
    percent: int | None


class EnergyCheck(msgspec.Struct, frozen=True):
    """Whether energy and macronutrients of a row can belong to one food, and why (not)."""

    verdict: Verdict
    stated_kcal: float | None
    computed_kcal: float | None
    macronutrients_g: float
    why: str


def per_portion(product: Product, portion: Portion) -> Amounts:
    """The amounts of a food for 100 g and for one portion of it."""
    per_100g = {name: value for name, value in sorted(product.nutrients.items()) if name in UNITS}
    if portion.grams is None:
        return Amounts(per_100g, None, {}, {})
    amounts = {name: round(value * portion.grams / 100, 3) for name, value in per_100g.items()}
    daily = {name: round(100 * value / DAILY_VALUES[name]) for name, value in amounts.items() if name in DAILY_VALUES}
    return Amounts(per_100g, portion.grams, amounts, daily)


def compare(base: Product, other: Product, nutrients: Iterable[str] = ()) -> list[Difference]:
    """How `other` differs from `base` in each of the nutrients that both give; all of them by default."""
    differences: list[Difference] = []
    for nutrient in tuple(nutrients) or sorted(base.nutrients):
        mine, theirs = base.amount(nutrient), other.amount(nutrient)
        if mine is None or theirs is None:
            continue
        change, unit = round(theirs - mine, 4), UNITS.get(nutrient, "")
        differences.append(Difference(nutrient, unit, mine, theirs, change, _percent(theirs - mine, mine)))
    return differences


def _percent(change: float, base: float) -> int | None:
    share = 100 * change / base if base else math.inf
    return round(share) if math.isfinite(share) else None


def energy_check(product: Product, portion: Portion) -> EnergyCheck:
    """Whether a food's energy fits its protein, carbohydrate and fat, counted 4, 4 and 9 kcal a gram.

    The general factors are those of 21 CFR 101.9(c)(1)(i)(B); fibre may count nothing (C), so the computed
    energy is a range. Allowed are the rounding of a label, which weighs more the smaller the portion, and
    the fifth by which a label may be wrong. A food of more than 100 g of macronutrients in 100 g, rounding
    apart, is implausible whatever its energy.
    """
    protein, carbohydrate = product.amount("Protein"), product.amount("Carbohydrate")
    fat, stated = product.amount("Total fat"), product.amount("Energy")
    given = [value for value in (protein, carbohydrate, fat) if value is not None]
    mass = round(sum(given), 2)
    scale = 100 / portion.grams if portion.grams else 1.0
    if mass > 100 + len(given) * _ROUNDED_G * scale:
        return EnergyCheck("implausible", stated, None, mass, f"{mass:g} g of macronutrients in 100 g")
    if protein is None or carbohydrate is None or fat is None or stated is None:
        return EnergyCheck("unknown", stated, None, mass, "energy or a macronutrient is not given")
    high = 4 * protein + 4 * carbohydrate + 9 * fat
    low = high - 4 * min(product.amount("Fiber") or 0.0, carbohydrate)
    slack = (_ROUNDED_KCAL + _ROUNDED_G * (4 + 4 + 9)) * scale
    if stated > high * (1 + _TOLERANCE) + slack:
        # Alcohol and organic acids have energy and no column.
        why = f"{stated:g} kcal stated, at most {high:.0f} by its macronutrients"
        return EnergyCheck("implausible", stated, round(high, 1), mass, why)
    if stated < low * (1 - _TOLERANCE) - slack:
        why = f"{stated:g} kcal stated, at least {low:.0f} by its macronutrients"
        return EnergyCheck("implausible", stated, round(high, 1), mass, why)
    why = f"{stated:g} kcal stated, {high:.0f} by its macronutrients"
    return EnergyCheck("plausible", stated, round(high, 1), mass, why)
