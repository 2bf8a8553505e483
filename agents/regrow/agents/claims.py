"""Which of the nutrient content claims of 21 CFR 101.54 to 101.62 a portion of a food would meet.

Pure functions. The regulations count per *reference amount customarily consumed* (101.12), which no column
gives: the portion of the row stands in for it. What needs the list of ingredients (added salt, sugar
alcohols) or trans fat, protein quality or the rules for whole meals is not applied, so a claim here says
what the numbers allow and is no advice about a label.
"""

import msgspec

from regrow.agents.nutrition import DAILY_VALUES, Amounts
from regrow.agents.portion import Portion
from regrow.agents.product import UNITS, plain_name

SMALL_PORTION_G = 30.0
"""A portion of 30 g or less, or of two tablespoons or less, must meet a "low" claim for 50 g of the food too."""

_VITAMINS_AND_MINERALS = tuple(
    name
    for name in DAILY_VALUES
    if name not in {"Total fat", "Fatty acids, total saturated", "Cholesterol", "Carbohydrate", "Sodium", "Protein"}
)


class Claim(msgspec.Struct, frozen=True):
    """A claim that the numbers allow: its words, the nutrient, the amount in a portion, and the paragraph."""

    claim: str
    nutrient: str
    amount: float
    unit: str
    rule: str


class _Level(msgspec.Struct, frozen=True):
    claim: str
    nutrient: str
    most: float
    rule: str
    exclusive: bool = False  # "less than", where the others say "or less"
    small_portions: bool = False  # the limit holds for 50 g as well where the portion is small
    saturated_max_g: float | None = None  # in a portion


# For each nutrient the strictest first; only the first that is met is said.
_LEVELS = (
    _Level("calorie free", "Energy", 5.0, "101.60(b)(1)", exclusive=True),
    _Level("low calorie", "Energy", 40.0, "101.60(b)(2)", small_portions=True),
    _Level("sugar free", "Total Sugars", 0.5, "101.60(c)(1)", exclusive=True),
    _Level("sodium free", "Sodium", 5.0, "101.61(b)(1)", exclusive=True),
    _Level("very low sodium", "Sodium", 35.0, "101.61(b)(2)", small_portions=True),
    _Level("low sodium", "Sodium", 140.0, "101.61(b)(4)", small_portions=True),
    _Level("fat free", "Total fat", 0.5, "101.62(b)(1)", exclusive=True),
    _Level("low fat", "Total fat", 3.0, "101.62(b)(2)", small_portions=True),
    _Level("cholesterol free", "Cholesterol", 2.0, "101.62(d)(1)", exclusive=True, saturated_max_g=2.0),
    _Level("low cholesterol", "Cholesterol", 20.0, "101.62(d)(2)", small_portions=True, saturated_max_g=2.0),
)

_CHOLESTEROL_FAT_MAX_G = 13.0  # above it a cholesterol claim has further conditions: 101.62(d)(1)(ii), (d)(2)(iii)
_SATURATED = "Fatty acids, total saturated"


def claims(amounts: Amounts, portion: Portion) -> tuple[Claim, ...]:
    """The claims that a portion of the food would meet; none where the weight of the portion is not known."""
    if portion.grams is None:
        return ()
    found: list[Claim] = []
    for level in _LEVELS:
        if all(claim.nutrient != level.nutrient for claim in found) and _meets(level, amounts, portion):
            found.append(_claim(level.claim, level.nutrient, amounts, level.rule))
    if _low_in_saturated(amounts):
        found.append(_claim("low saturated fat", _SATURATED, amounts, "101.62(c)(2)"))
    for nutrient in _VITAMINS_AND_MINERALS:
        share = 100 * amounts.portion.get(nutrient, 0.0) / DAILY_VALUES[nutrient]
        if share >= 20:
            found.append(_claim(f"high in {plain_name(nutrient)}", nutrient, amounts, "101.54(b)"))
        elif share >= 10:
            found.append(_claim(f"good source of {plain_name(nutrient)}", nutrient, amounts, "101.54(c)"))
    return tuple(found)


def _meets(level: _Level, amounts: Amounts, portion: Portion) -> bool:
    amount = amounts.portion.get(level.nutrient)
    if amount is None or amount > level.most or (level.exclusive and amount == level.most):
        return False
    if level.small_portions and is_small(portion) and amounts.per_100g[level.nutrient] / 2 > level.most:
        return False
    if level.saturated_max_g is None:
        return True
    saturated, fat = amounts.portion.get(_SATURATED), amounts.portion.get("Total fat")
    return (
        saturated is not None
        and saturated <= level.saturated_max_g
        and fat is not None
        and fat <= _CHOLESTEROL_FAT_MAX_G
    )


def is_small(portion: Portion) -> bool:
    """Whether the portion is 30 g or less, or two tablespoons or less."""
    spoons = portion.unit in ("tbsp", "tsp") and portion.millilitres is not None and portion.millilitres <= 30.0
    return spoons or (portion.grams is not None and portion.grams <= SMALL_PORTION_G)


def _low_in_saturated(amounts: Amounts) -> bool:
    saturated, energy = amounts.portion.get(_SATURATED), amounts.portion.get("Energy")
    return saturated is not None and energy is not None and saturated <= 1.0 and 9 * saturated <= 0.15 * energy


def _claim(words: str, nutrient: str, amounts: Amounts, rule: str) -> Claim:
    return Claim(words, nutrient, amounts.portion[nutrient], UNITS[nutrient], f"21 CFR {rule}")
