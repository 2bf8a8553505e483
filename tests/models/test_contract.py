"""What every model keeps to; run on the rules and on a real HTTP endpoint."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from regrow.models import AnthropicModel, Completion, Model, OpenAIModel, Prompt, RulesModel, SemanticError, Usage

pytestmark = pytest.mark.asyncio


class Pair(msgspec.Struct, frozen=True):
    left: int
    right: int


def double(number: int) -> int:
    return 2 * number


def pair(number: int) -> Pair:
    return Pair(number, number + 1)


def pairs(number: int) -> list[Pair]:
    return [Pair(n, n + 1) for n in range(number)]


def is_even(number: int) -> bool:
    return number % 2 == 0


def word(number: int) -> str:
    return f"number {number}"


RULES: dict[str, Callable[..., Any]] = {rule.__name__: rule for rule in (double, pair, pairs, is_even, word)}


def as_a_provider(said: Callable[..., str]) -> Callable[[dict[str, Any]], tuple[int, dict[str, str], str]]:
    """The same tasks behind chat completions: the task is the name of the schema, the inputs the user's message."""

    def answer(request: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        inputs = json.loads(request["messages"][-1]["content"])
        value = RULES[request["response_format"]["json_schema"]["name"]](**inputs)
        return 200, {}, said(msgspec.json.encode({"value": value}).decode())

    return answer


def as_anthropic(called: Callable[..., str]) -> Callable[[dict[str, Any]], tuple[int, dict[str, str], str]]:
    """The same tasks behind the Messages API: the task is the name of the tool that must be called."""

    def answer(request: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        inputs = json.loads(request["messages"][-1]["content"])
        value = RULES[request["tool_choice"]["name"]](**inputs)
        return 200, {}, called(msgspec.to_builtins({"value": value}))

    return answer


@pytest_asyncio.fixture(params=["rules", "openai", "anthropic"])
async def model(
    request: pytest.FixtureRequest, serve: Callable[..., str], said: Callable[..., str], called: Callable[..., str]
) -> AsyncIterator[Model]:
    if request.param == "rules":
        yield RulesModel(RULES)
    elif request.param == "openai":
        async with OpenAIModel("tiny", base_url=serve(as_a_provider(said)), api_key="none") as opened:
            yield opened
    else:
        url = serve(as_anthropic(called)).removesuffix("/v1")
        async with AnthropicModel("tiny", base_url=url, api_key="none") as anthropic:
            yield anthropic


async def test_it_is_a_model(model: Model) -> None:
    assert isinstance(model, Model)
    assert model.name


@pytest.mark.parametrize(
    ("task", "returns", "value"),
    [
        ("double", int, 8),
        ("pair", Pair, Pair(4, 5)),
        ("pairs", list[Pair], [Pair(0, 1), Pair(1, 2), Pair(2, 3), Pair(3, 4)]),
        ("pairs", tuple[Pair, ...], (Pair(0, 1), Pair(1, 2), Pair(2, 3), Pair(3, 4))),
        ("is_even", bool, True),
        ("word", str, "number 4"),
    ],
)
async def test_the_value_is_of_the_type_asked_for(model: Model, task: str, returns: type[Any], value: object) -> None:
    completion = await model.complete(Prompt(task, "Do it.", {"number": 4}), returns)
    assert completion.value == value
    assert type(completion.value) is type(value)


@pytest.mark.parametrize(("task", "returns"), [("word", int), ("double", Pair), ("pair", list[Pair]), ("double", bool)])
async def test_an_answer_of_another_type_is_a_semantic_error_in_the_validator_s_words(
    model: Model, task: str, returns: type[Any]
) -> None:
    with pytest.raises(SemanticError, match="Expected `") as caught:
        await model.complete(Prompt(task, "Do it.", {"number": 4}), returns)
    assert caught.value.kind == "semantic"
    assert "Expected `" in caught.value.why
    assert caught.value.said


async def test_many_may_ask_at_once_and_each_gets_its_own_answer(model: Model) -> None:
    prompts = [Prompt("double", "Do it.", {"number": n}) for n in range(20)]
    completions = await asyncio.gather(*(model.complete(prompt, int) for prompt in prompts))
    assert [completion.value for completion in completions] == [2 * n for n in range(20)]


async def test_a_prompt_that_was_recorded_and_read_again_gets_the_same_answer(model: Model) -> None:
    prompt = Prompt("double", "Do it.", {"number": 21})
    again = msgspec.json.decode(msgspec.json.encode(prompt), type=Prompt)
    assert (await model.complete(again, int)).value == (await model.complete(prompt, int)).value == 42


async def test_a_completion_can_be_recorded_with_its_usage(model: Model) -> None:
    completion = await model.complete(Prompt("pair", "Do it.", {"number": 4}), Pair)
    assert msgspec.json.decode(msgspec.json.encode(completion), type=Completion[Pair]) == completion
    assert completion.usage == (Usage() if model.deterministic else Usage(12, 3))
    assert completion.model
