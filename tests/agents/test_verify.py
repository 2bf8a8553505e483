from collections.abc import Callable

import msgspec
import pytest

from regrow.agents.card import Alternative, Evidence, Recommendation
from regrow.agents.nutrition import Difference, compare
from regrow.agents.product import Product
from regrow.agents.question import Wish
from regrow.agents.verify import Verified, recommendation_ok, verify_alternatives

Food = Callable[..., Product]


@pytest.fixture
def base(food: Food) -> Product:
    return food("1", Sodium=640)


@pytest.fixture
def other(food: Food) -> Product:
    return food("2", "MILD", Sodium=320)


@pytest.fixture
def true(base: Product, other: Product) -> Alternative:
    return Alternative("2", "MILD", "less sodium", tuple(compare(base, other, ["Sodium"])))


def test_an_alternative_that_is_what_its_row_says_is_kept(base: Product, other: Product, true: Alternative) -> None:
    assert verify_alternatives(base, (true,), {"2": other}) == Verified((true,), ())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"id": "9"}, "there is no such row"),
        ({"id": "1"}, "it is the product itself"),
        ({"name": "AGED"}, "the row is named 'MILD'"),
        ({"differences": ()}, "nothing says why it would be better"),
        (
            {"differences": (Difference("Sodium", "mg", 640.0, 300.0, -340.0, -53),)},
            "the rows differ otherwise in Sodium",
        ),
        ({"differences": (Difference("Zinc", "mg", 2.0, 1.0, -1.0, -50),)}, "the rows differ otherwise in Zinc"),
    ],
)
def test_an_alternative_that_is_not_so_is_refused_with_the_reason(
    base: Product, other: Product, true: Alternative, change: dict[str, object], why: str
) -> None:
    said = msgspec.structs.replace(true, **change)
    assert verify_alternatives(base, (said,), {"1": base, "2": other}) == Verified((), ((said.id, why),))


def test_a_recommendation_holds_when_rows_and_evidence_agree(base: Product, other: Product) -> None:
    rows = {"1": base, "2": other}
    wish = Wish("CHEDDAR CHEESE", less=("Sodium",))
    evidence = (Evidence("1", "Sodium", 640.0), Evidence("2", "Sodium", 320.0))
    good = Recommendation("like CHEDDAR CHEESE but less salt", wish, "1", "2", "MILD", "less sodium", evidence)
    replace = msgspec.structs.replace
    assert recommendation_ok(good, rows)
    assert not recommendation_ok(replace(good, answer_id=None), rows)
    assert not recommendation_ok(replace(good, answer_id="9"), rows)
    assert not recommendation_ok(replace(good, base_id="2", answer_id="1"), rows)
    assert not recommendation_ok(replace(good, evidence=(Evidence("2", "Sodium", 300.0),)), rows)
    assert not recommendation_ok(replace(good, evidence=(Evidence("9", "Sodium", 320.0),)), rows)
