"""What a recommendation question asks for, and whether an answer gives it.

Pure functions. The check reads nothing but the columns of the two rows, so it can judge any model's answer.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from regrow.agents.product import Product

NUTRIENT_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "calories": "Energy",
        "calorie": "Energy",
        "energy": "Energy",
        "kcal": "Energy",
        "saturated fat": "Fatty acids, total saturated",
        "saturates": "Fatty acids, total saturated",
        "total fat": "Total fat",
        "fat": "Total fat",
        "sodium": "Sodium",
        "salt": "Sodium",
        "sugar": "Total Sugars",
        "sugars": "Total Sugars",
        "total sugars": "Total Sugars",
        "carbohydrates": "Carbohydrate",
        "carbohydrate": "Carbohydrate",
        "carbs": "Carbohydrate",
        "fiber": "Fiber",
        "fibre": "Fiber",
        "protein": "Protein",
        "cholesterol": "Cholesterol",
        "calcium": "Calcium",
        "iron": "Iron",
        "potassium": "Potassium",
        "magnesium": "Magnesium",
        "zinc": "Zinc",
        "vitamin a": "Vitamin A, RAE",
        "vitamin c": "Vitamin C",
        "vitamin d": "Vitamin D (D2 + D3)",
        "vitamin e": "Vitamin E",
    }
)
"""The words of a question for a nutrient, and its column."""

_LIKE = re.compile(
    r"^\W*(?:(?:something|anything|what|is|there|find|show|recommend|suggest|give|me|a|an|product|food|snack)\s+)*"
    r"(?:like|similar\s+to|instead\s+of|(?:an?\s+)?alternatives?\s+(?:to|for))\s+(?P<like>.+?)"
    r",?\s+(?:but|with|that\s+has|that\s+have|having)(?:\s+(?:with|has|a\s+lot|much))*"
    r"\s+(?P<terms>(?:less|lower|fewer|reduced|little|more|higher|extra|greater)\b.+?)"
    r"(?:,?\s+(?:in|from|among)\s+(?:the\s+)?category\s+(?P<category>.+?))?[\s?.!]*$",
    re.IGNORECASE | re.DOTALL,
)
_LESS = {"less", "lower", "fewer", "reduced", "little"}
_MORE = {"more", "higher", "extra", "greater"}
_SEPARATORS = re.compile(r"\s*(?:,|&|\band\b|\bbut\b|\bor\b|\bplus\b)\s*", re.IGNORECASE)
_FILLERS = {"with", "in", "of", "a", "has", "have", "much", "also", "at", "the", "same", "time"}


class QuestionNotUnderstood(ValueError):
    """The question has no shape that these rules know; a model may still read it."""


class Wish(msgspec.Struct, frozen=True):
    """A food like `like`, with less of some columns and more of others; `category` None: that of `like`."""

    like: str
    less: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    category: str | None = None


def parse_question(question: str) -> Wish:
    """The wish in "like X but less sodium and more protein"; raises `QuestionNotUnderstood`."""
    found = _LIKE.match(" ".join(question.split()))
    if found is None:
        raise QuestionNotUnderstood(f'{question!r} is not of the shape "like X but less sodium and more protein"')
    less: list[str] = []
    more: list[str] = []
    wanted = less  # the terms begin with a word for less or more, or the shape would not have matched
    for term in filter(None, _SEPARATORS.split(found["terms"])):
        words = [word for word in re.findall(r"[\w-]+", term.lower()) if word not in _FILLERS]
        if words and words[0] in _LESS | _MORE:
            wanted = less if words.pop(0) in _LESS else more
        wanted.append(_column(" ".join(words)))
    if contradiction := sorted(set(less) & set(more)):
        raise QuestionNotUnderstood(f"the question wants both less and more {contradiction[0]}")
    like = found["like"].strip().strip("\"'“”").strip()
    return Wish(like, tuple(dict.fromkeys(less)), tuple(dict.fromkeys(more)), found["category"])


def constraint_ok(wish: Wish, base: Product, answer: Product) -> bool:
    """Whether the answer is another row, of the wanted category, with strictly less and more of what was asked.

    A column that either row leaves empty is not met: unknown is not less.
    """
    if answer.id == base.id or not (wish.less or wish.more):
        return False
    category = base.category if wish.category is None else wish.category
    if answer.category.casefold() != category.casefold():
        return False
    return all(_is_less(answer, base, column) for column in wish.less) and all(
        _is_less(base, answer, column) for column in wish.more
    )


def _is_less(one: Product, other: Product, column: str) -> bool:
    low, high = one.amount(column), other.amount(column)
    return low is not None and high is not None and low < high


def _column(words: str) -> str:
    if words not in NUTRIENT_WORDS:
        known = ", ".join(sorted(set(NUTRIENT_WORDS)))
        raise QuestionNotUnderstood(f"{words!r} is no nutrient known here; known are: {known}")
    return NUTRIENT_WORDS[words]
