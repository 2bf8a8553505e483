import pytest

from regrow.agents.claims import Claim, claims, is_small
from regrow.agents.nutrition import per_portion
from regrow.agents.portion import parse_portion
from regrow.agents.product import Product


def claimed(portion: str, grams: float | None, **amounts: float) -> list[str]:
    return [claim.claim for claim in found(portion, grams, **amounts)]


def found(portion: str, grams: float | None, **amounts: float) -> tuple[Claim, ...]:
    nutrients = {key.replace("_", " "): value for key, value in amounts.items()}
    if "Saturated" in nutrients:
        nutrients["Fatty acids, total saturated"] = nutrients.pop("Saturated")
    read = parse_portion(portion, grams)
    return claims(per_portion(Product("1", "x", nutrients=nutrients), read), read)


@pytest.mark.parametrize(
    ("sodium", "words"),
    [
        (4.9, ["sodium free"]),
        (5.0, ["very low sodium"]),
        (35.0, ["very low sodium"]),
        (35.1, ["low sodium"]),
        (140.0, ["low sodium"]),
        (140.1, []),
    ],
)
def test_sodium_claims_have_their_limits_per_portion(sodium: float, words: list[str]) -> None:
    assert claimed("1 cup", 100.0, Sodium=sodium) == words


@pytest.mark.parametrize(
    ("portion", "grams", "words"),
    [("1 cup", 31.0, ["low sodium"]), ("1 ONZ", 30.0, []), ("2 Tbsp", 31.0, []), ("3 Tbsp", 45.0, ["low sodium"])],
)
def test_a_small_portion_must_be_low_in_50_g_too(portion: str, grams: float, words: list[str]) -> None:
    # 140 mg in 50 g are 280 mg in 100 g; 300 mg are low in a portion of 45 g, but not in 50 g
    assert claimed(portion, grams, Sodium=300.0) == words


def test_a_claim_names_amount_and_paragraph() -> None:
    assert found("1 cup", 200.0, Total_fat=1.0) == (Claim("low fat", "Total fat", 2.0, "g", "21 CFR 101.62(b)(2)"),)


@pytest.mark.parametrize(
    ("amounts", "words"),
    [
        ({"Energy": 4.0}, ["calorie free"]),
        ({"Energy": 40.0}, ["low calorie"]),
        ({"Total_Sugars": 0.4}, ["sugar free"]),
        ({"Total_Sugars": 0.5}, []),
        ({"Total_fat": 0.4}, ["fat free"]),
        ({"Saturated": 1.0, "Energy": 60.0}, ["low saturated fat"]),
        ({"Saturated": 1.0, "Energy": 59.0}, []),
        ({"Fiber": 2.8}, ["good source of fibre"]),
        ({"Fiber": 5.6}, ["high in fibre"]),
        ({"Fiber": 2.7}, []),
        ({"Calcium": 260.0}, ["high in calcium"]),
    ],
)
def test_each_claim_has_its_limit(amounts: dict[str, float], words: list[str]) -> None:
    assert claimed("1 cup", 100.0, **amounts) == words


def test_a_cholesterol_claim_needs_little_saturated_and_total_fat() -> None:
    assert "cholesterol free" in claimed("1 cup", 100.0, Cholesterol=0.0, Saturated=2.0, Total_fat=13.0)
    assert "cholesterol free" not in claimed("1 cup", 100.0, Cholesterol=0.0, Saturated=2.1, Total_fat=13.0)
    assert "cholesterol free" not in claimed("1 cup", 100.0, Cholesterol=0.0, Saturated=2.0, Total_fat=13.1)
    assert "low cholesterol" not in claimed("1 cup", 100.0, Cholesterol=20.0)


def test_without_the_weight_of_the_portion_nothing_is_claimed() -> None:
    assert claimed("1 WHEEL", None, Sodium=0.0) == []


@pytest.mark.parametrize(("text", "grams", "small"), [("6 tsp", 40.0, True), ("7 tsp", 40.0, False), ("", 30.0, True)])
def test_a_portion_is_small_by_weight_or_by_spoons(text: str, grams: float, small: bool) -> None:
    assert is_small(parse_portion(text, grams)) is small
