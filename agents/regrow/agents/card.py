"""What the researcher asks of a model and what it files: the typed questions, answers and finished cards.

Frozen values. A card holds nothing of the hour, the machine or the order of work, so the same rows, rules
and model give the same bytes.
"""

from typing import Literal

import msgspec

from regrow.agents.nutrition import Difference, EnergyCheck
from regrow.agents.portion import Portion
from regrow.agents.question import Wish

ALTERNATIVES_MAX = 3
"""Alternatives on a card."""


class NameReading(msgspec.Struct, frozen=True):
    """A product's name for people, the words to search its like by, and the words for its form ("sliced")."""

    title: str
    keywords: tuple[str, ...]
    form: tuple[str, ...]


class Trait(msgspec.Struct, frozen=True):
    """One thing that marks a product, and the number that says so."""

    trait: str
    because: str


class Traits(msgspec.Struct, frozen=True):
    """What marks a product, the strongest first."""

    traits: tuple[Trait, ...]


class Candidate(msgspec.Struct, frozen=True):
    """A product that might be the better choice, and how it differs from the one in question."""

    id: str
    name: str
    differences: tuple[Difference, ...]
    energy: Literal["plausible", "implausible", "unknown"] = "unknown"


class Alternative(msgspec.Struct, frozen=True):
    """A better choice: the row that it is, why, and the differences that the reason rests on."""

    id: str
    name: str
    reason: str
    differences: tuple[Difference, ...]


class Alternatives(msgspec.Struct, frozen=True):
    """Up to `ALTERNATIVES_MAX` better choices, the best first; none is an answer too."""

    alternatives: tuple[Alternative, ...]


class Summary(msgspec.Struct, frozen=True):
    """One sentence about a product."""

    sentence: str


class ProductCard(msgspec.Struct, frozen=True):
    """The finished research of one product; `model` names what wrote its words."""

    id: str
    title: str
    category: str
    portion: Portion
    traits: tuple[Trait, ...]
    percentiles: dict[str, int]
    energy_check: EnergyCheck
    alternatives: tuple[Alternative, ...]
    summary: str
    model: str


class Evidence(msgspec.Struct, frozen=True):
    """One number of one row, for 100 g."""

    id: str
    nutrient: str
    value: float


class Choice(msgspec.Struct, frozen=True):
    """The candidate that a question is answered with, or None, and the numbers that it rests on."""

    id: str | None
    name: str
    reason: str
    evidence: tuple[Evidence, ...] = ()


class Recommendation(msgspec.Struct, frozen=True):
    """The answer to a question about the catalogue; `answer_id` is None where no row gives what was asked."""

    question: str
    wish: Wish
    base_id: str
    answer_id: str | None
    answer_name: str
    reason: str
    evidence: tuple[Evidence, ...]


def card_bytes(card: ProductCard) -> bytes:
    """The card as JSON with sorted keys: equal cards are equal bytes."""
    return msgspec.json.encode(card, order="sorted")
