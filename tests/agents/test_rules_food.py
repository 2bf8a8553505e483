from collections.abc import Callable

import msgspec
import pytest

from regrow.agents.card import (
    Alternative,
    Alternatives,
    Candidate,
    Choice,
    Evidence,
    NameReading,
    Summary,
    Trait,
    Traits,
)
from regrow.agents.claims import Claim, claims
from regrow.agents.nutrition import Amounts, Difference, compare, per_portion
from regrow.agents.portion import parse_portion
from regrow.agents.product import Product
from regrow.agents.question import Wish
from regrow.agents.rules_food import (
    KEYWORDS_MAX,
    TRAITS_MAX,
    WATCHED,
    choose_alternatives,
    food_rules,
    judge_traits,
    pick_answer,
    read_name,
    summarise,
)
from regrow.agents.store import CatalogStore
from regrow.models import ModelRefused, Prompt

Food = Callable[..., Product]


# Names


@pytest.mark.parametrize(
    ("name", "category", "reading"),
    [
        ("SHARP CHEDDAR CHEESE, SHARP", "Cheese", NameReading("Sharp Cheddar Cheese", ("sharp", "cheddar"), ())),
        (
            "SLICED HAM WITH HONEY, 16 OZ",
            "Pepperoni, Salami & Cold Cuts",
            NameReading("Sliced Ham with Honey", ("ham", "honey"), ("sliced",)),
        ),
        ("Milk, whole", "Milk", NameReading("Milk, whole", ("milk",), ("whole",))),
        ("CHEESE", "Cheese", NameReading("Cheese", ("cheese",), ())),
        ("THE ORIGINAL", "Candy", NameReading("The Original", ("the",), ())),
        ("12 OZ", "Candy", NameReading("12 Oz", ("12",), ())),
    ],
)
def test_a_name_is_read(name: str, category: str, reading: NameReading) -> None:
    assert read_name(name, category) == reading


def test_of_many_words_the_last_are_kept_because_a_brand_comes_first() -> None:
    keywords = read_name("ACME, DARK CHOCOLATE HAZELNUT SEA SALT PRETZEL CLUSTERS", "Candy").keywords
    assert len(keywords) == KEYWORDS_MAX
    assert keywords[-1] == "clusters"


def test_every_name_of_the_sample_has_a_title_and_words_to_search_by(sample: list[Product]) -> None:
    for product in sample:
        reading = read_name(product.name, product.category)
        assert reading.title
        assert reading.keywords


# Traits


def test_traits_are_claims_then_much_of_a_day_then_the_ends_of_the_category() -> None:
    amounts = Amounts({"Sodium": 700.0, "Protein": 25.0, "Iron": 1.0}, 100.0, {}, {"Sodium": 30})
    claim = Claim("good source of iron", "Iron", 1.9, "mg", "21 CFR 101.54(c)")
    assert judge_traits(amounts, {"Protein": 97, "Iron": 99, "Sodium": 50}, (claim,)) == Traits(
        (
            Trait("good source of iron", "1.9 mg in a portion (21 CFR 101.54(c))"),
            Trait("much sodium", "30 % of a day's value in a portion"),
            Trait("rich in protein", "25 g in 100 g, more than 97 % of its category"),
        )
    )


@pytest.mark.parametrize(
    ("place", "trait"),
    [(10, "poor in iron"), (11, None), (89, None), (90, "rich in iron")],
)
def test_a_product_stands_out_at_the_ends_of_its_category(place: int, trait: str | None) -> None:
    found = judge_traits(Amounts({"Iron": 1.0}, None, {}, {}), {"Iron": place}, ()).traits
    assert [t.trait for t in found] == ([trait] if trait else [])


def test_there_are_no_more_traits_than_a_card_has_room_for(sample: list[Product]) -> None:
    for product in sample[:200]:
        portion = parse_portion(product.portion, product.portion_g)
        amounts = per_portion(product, portion)
        places = dict.fromkeys(product.nutrients, 95)
        assert len(judge_traits(amounts, places, claims(amounts, portion)).traits) <= TRAITS_MAX


# Alternatives


def candidate(base: Product, other: Product) -> Candidate:
    return Candidate(other.id, other.name, tuple(compare(base, other, WATCHED)), "plausible")


def test_the_better_candidate_comes_first_with_its_reason(food: Food) -> None:
    base = food("1", Sodium=640, Protein=20)
    little, much = food("2", "MILD", Sodium=480, Protein=20), food("3", "LIGHT", Sodium=320, Protein=20)
    found = choose_alternatives((candidate(base, little), candidate(base, much))).alternatives
    assert [alternative.id for alternative in found] == ["3", "2"]
    assert found[0].reason == "50 % less sodium (320 instead of 640 mg in 100 g)"
    assert found[0].differences == (Difference("Sodium", "mg", 640.0, 320.0, -320.0, -50),)


@pytest.mark.parametrize(
    "amounts",
    [
        {"Sodium": 600, "Protein": 20},  # less by less than labels round
        {"Sodium": 320, "Protein": 15},  # better in one, worse in another
        {"Sodium": 700, "Protein": 20},
        {},
    ],
)
def test_what_is_hardly_better_or_worse_elsewhere_is_no_alternative(food: Food, amounts: dict[str, float]) -> None:
    base = food("1", Sodium=640, Protein=20)
    assert choose_alternatives((candidate(base, food("2", **amounts)),)) == Alternatives(())


def test_a_trace_less_is_no_reason(food: Food) -> None:
    assert choose_alternatives((candidate(food("1", Sodium=20), food("2", Sodium=0)),)) == Alternatives(())


def test_a_candidate_whose_numbers_cannot_be_true_is_no_alternative(food: Food) -> None:
    better = candidate(food("1", Sodium=640), food("2", Sodium=10))
    assert choose_alternatives((better,)).alternatives
    assert not choose_alternatives((msgspec.structs.replace(better, energy="implausible"),)).alternatives


def test_three_are_enough_and_each_has_a_name_of_its_own(food: Food) -> None:
    base = food("0", Sodium=640)
    twins = [candidate(base, food(str(n), "TWIN", Sodium=100)) for n in range(1, 3)]
    others = [candidate(base, food(f"o{n}", f"OTHER {n}", Sodium=200 + n)) for n in range(9)]
    assert [a.id for a in choose_alternatives((*others, *twins)).alternatives] == ["1", "o0", "o1"]


# Summaries


def test_a_summary_is_one_sentence_of_what_was_found() -> None:
    traits = (Trait("much sodium", ""), Trait("rich in protein", ""))
    better = (Alternative("2", "MILD CHEDDAR, MILD", "50 % less sodium", ()),)
    assert summarise("Cheddar", "Cheese", traits, better) == Summary(
        "Cheddar (Cheese): much sodium and rich in protein; Mild Cheddar has 50 % less sodium."
    )
    assert summarise("Cheddar", "", (), ()) == Summary(
        "Cheddar (no category): nothing that sets it apart; nothing like it is better."
    )


# Answers

LESS_SALT = Wish("CHEDDAR CHEESE", less=("Sodium",))


def test_the_answer_is_the_likest_that_gives_what_was_asked(food: Food) -> None:
    base = food("1", "SHARP CHEDDAR CHEESE", Sodium=640)
    candidates = (
        food("2", "RICOTTA", Sodium=80),
        food("3", "SHARP CHEDDAR CHEESE", Sodium=700),
        food("4", "MILD CHEDDAR CHEESE", Sodium=500),
    )
    assert pick_answer(LESS_SALT, base, candidates) == Choice(
        "4",
        "MILD CHEDDAR CHEESE",
        "less sodium (500 instead of 640 mg in 100 g)",
        (Evidence("1", "Sodium", 640.0), Evidence("4", "Sodium", 500.0)),
    )


def test_of_equally_like_ones_the_one_with_the_larger_margin_answers(food: Food) -> None:
    candidates = (food("2", Sodium=600), food("3", Sodium=300), food("4", Sodium=400))
    assert pick_answer(LESS_SALT, food("1", Sodium=640), candidates).id == "3"


def test_no_answer_says_so(food: Food) -> None:
    choice = pick_answer(LESS_SALT, food("1", Sodium=640), (food("2", Sodium=700), food("3")))
    assert choice == Choice(None, "", "none of 2 candidates gives all that was asked")


# As a model


@pytest.mark.asyncio
async def test_the_rules_are_a_model_that_names_itself(food: Food) -> None:
    model = food_rules()
    assert (model.name, model.deterministic) == ("rules", True)
    assert "No language model is involved" in model.description
    prompt = Prompt("read_question", "Read it.", {"question": "like BRIE but less salt"})
    assert (await model.complete(prompt, Wish)).value == Wish("BRIE", ("Sodium",))


@pytest.mark.asyncio
async def test_a_question_that_the_rules_cannot_read_is_refused_in_their_words() -> None:
    with pytest.raises(ModelRefused, match="is not of the shape"):
        await food_rules().complete(Prompt("read_question", "", {"question": "which is best?"}), Wish)


@pytest.mark.asyncio
async def test_every_task_of_a_card_runs_through_the_model(sample_store: CatalogStore, sample: list[Product]) -> None:
    model = food_rules()
    product = next(p for p in sample if p.name == "CHEDDAR CHEESE")
    portion = parse_portion(product.portion, product.portion_g)
    amounts = per_portion(product, portion)
    told = {"name": product.name, "category": product.category}
    name = (await model.complete(Prompt("read_name", "", told), NameReading)).value
    hits = sample_store.search(" ".join(name.keywords), 20, product.category)
    rows = sample_store.products([hit.id for hit in hits if hit.id != product.id])
    inputs = {"candidates": [candidate(product, row) for row in rows]}
    found = (await model.complete(Prompt("choose_alternatives", "", inputs), Alternatives)).value
    judged = {"amounts": amounts, "percentiles": {"Sodium": 95}, "claims": claims(amounts, portion)}
    traits = (await model.complete(Prompt("judge_traits", "", judged), Traits)).value
    said = {
        "title": name.title,
        "category": product.category,
        "traits": traits.traits,
        "alternatives": found.alternatives,
    }
    summary = (await model.complete(Prompt("summarise", "", said), Summary)).value
    asked = {"wish": LESS_SALT, "base": product, "candidates": rows}
    choice = (await model.complete(Prompt("pick_answer", "", asked), Choice)).value
    assert found == choose_alternatives(tuple(inputs["candidates"]))
    assert summary.sentence.startswith("Cheddar Cheese (Cheese): ")
    assert choice == pick_answer(LESS_SALT, product, tuple(rows))
