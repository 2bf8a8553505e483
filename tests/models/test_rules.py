from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from regrow.models import ModelRefused, Prompt, RulesModel, UnknownTask


class Food(msgspec.Struct, frozen=True):
    name: str


def shout(food: Food, times: int = 1) -> str:
    return food.name.upper() * times


def refuse(food: Food) -> str:
    raise ValueError(f"there is nothing to say about {food.name}")


@pytest.fixture
def model() -> RulesModel:
    return RulesModel({"shout": shout, "refuse": refuse})


def test_the_rules_say_what_they_are(model: RulesModel) -> None:
    assert (model.name, model.deterministic, model.tasks) == ("rules", True, ("shout", "refuse"))
    assert "No language model is involved" in model.description


@pytest.mark.asyncio
async def test_inputs_reach_the_rule_by_name_as_the_types_of_its_parameters(model: RulesModel) -> None:
    from_struct = Prompt("shout", "", {"food": Food("brie"), "times": 2})
    from_record = Prompt("shout", "", {"food": {"name": "brie"}})
    assert (await model.complete(from_struct, str)).value == "BRIEBRIE"
    assert (await model.complete(from_record, str)).value == "BRIE"


@pytest.mark.asyncio
async def test_an_unknown_task_names_those_that_are_known(model: RulesModel) -> None:
    with pytest.raises(UnknownTask, match="no rule for the task 'sing'; the rules know: refuse, shout"):
        await model.complete(Prompt("sing", ""), str)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "inputs", [{}, {"food": "brie"}, {"food": {"name": 1}}, {"food": {"name": "brie"}, "volume": 3}]
)
async def test_inputs_that_do_not_fit_are_refused(model: RulesModel, inputs: dict[str, Any]) -> None:
    with pytest.raises(ModelRefused, match="the inputs do not fit the rule for 'shout'"):
        await model.complete(Prompt("shout", "", inputs), str)


@pytest.mark.asyncio
async def test_the_words_of_a_rule_that_cannot_answer_reach_the_caller(model: RulesModel) -> None:
    with pytest.raises(ModelRefused, match="there is nothing to say about brie"):
        await model.complete(Prompt("refuse", "", {"food": {"name": "brie"}}), str)


def test_a_rule_must_say_the_types_of_its_inputs() -> None:
    def vague(food) -> str:  # type: ignore[no-untyped-def] # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]
        return str(food)  # pyright: ignore[reportUnknownArgumentType]

    rules: dict[str, Callable[..., Any]] = {"vague": vague}  # pyright: ignore[reportUnknownVariableType]
    with pytest.raises(TypeError, match="the rule for 'vague' must annotate its parameter 'food'"):
        RulesModel(rules)
