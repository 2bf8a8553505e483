"""Whether what a model said is what the rows say. Pure functions; they trust no number but the columns."""

from collections.abc import Mapping

import msgspec

from regrow.agents.card import Alternative, Recommendation
from regrow.agents.nutrition import compare
from regrow.agents.product import Product
from regrow.agents.question import constraint_ok


class Verified(msgspec.Struct, frozen=True):
    """The alternatives that hold, as the rows have them, and those that do not, with why."""

    kept: tuple[Alternative, ...]
    refused: tuple[tuple[str, str], ...]


def verify_alternatives(base: Product, alternatives: tuple[Alternative, ...], rows: Mapping[str, Product]) -> Verified:
    """Each alternative against its row: that it exists, is another product, is named so, and differs as said."""
    kept: list[Alternative] = []
    refused: list[tuple[str, str]] = []
    for alternative in alternatives:
        why = _wrong(base, alternative, rows.get(alternative.id))
        if why:
            refused.append((alternative.id, why))
        else:
            kept.append(alternative)
    return Verified(tuple(kept), tuple(refused))


def recommendation_ok(recommendation: Recommendation, rows: Mapping[str, Product]) -> bool:
    """Whether a recommendation's answer gives what was wished, and each number of its evidence is in its row."""
    base = rows.get(recommendation.base_id)
    answer = rows.get(recommendation.answer_id or "")
    if base is None or answer is None or not constraint_ok(recommendation.wish, base, answer):
        return False
    return all(
        (row := rows.get(evidence.id)) is not None and row.amount(evidence.nutrient) == evidence.value
        for evidence in recommendation.evidence
    )


def _wrong(base: Product, alternative: Alternative, row: Product | None) -> str:
    if row is None:
        return "there is no such row"
    if row.id == base.id:
        return "it is the product itself"
    if row.name != alternative.name:
        return f"the row is named {row.name!r}"
    if not alternative.differences:
        return "nothing says why it would be better"
    said = list(alternative.differences)
    found = {d.nutrient: d for d in compare(base, row, [d.nutrient for d in said])}
    wrong = [d.nutrient for d in said if found.get(d.nutrient) != d]
    return f"the rows differ otherwise in {', '.join(wrong)}" if wrong else ""
