import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from regrow.models import (
    AnswerCut,
    AnthropicModel,
    AnthropicOptions,
    ModelRefused,
    ModelThrottled,
    ModelUnreachable,
    Prompt,
    SemanticError,
    Usage,
)

Serve = Callable[[Callable[[dict[str, Any]], tuple[int, dict[str, str], str]]], str]
Called = Callable[..., str]

PROMPT = Prompt("count", " Count the foods. ", {"foods": ["brie", "gouda"]})


def asked(serve: Serve, status: int, body: str, headers: dict[str, str] | None = None) -> AnthropicModel:
    """A model whose endpoint always answers the same."""
    return model_at(serve(lambda _: (status, headers or {}, body)))


def model_at(url: str, options: AnthropicOptions | None = None) -> AnthropicModel:
    return AnthropicModel("tiny", base_url=url.removesuffix("/v1"), api_key="none", options=options)


# What goes out and what comes back


@pytest.mark.asyncio
async def test_a_request_makes_the_model_call_one_tool_with_the_answer(serve: Serve, called: Called) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        seen.append(request)
        return 200, {}, called({"value": 2})

    async with model_at(serve(answer), AnthropicOptions(output_tokens_max=50)) as model:
        await model.complete(PROMPT, int)
    (request,) = seen
    assert request == {
        "path": "/v1/messages",
        "model": "tiny",
        "max_tokens": 50,
        "system": "Count the foods.",
        "messages": [{"role": "user", "content": '{"foods":["brie","gouda"]}'}],
        "tool_choice": {"type": "tool", "name": "count", "disable_parallel_tool_use": True},
        "tools": [
            {
                "name": "count",
                "description": "Give the answer.",
                "input_schema": {
                    "title": "Answer",
                    "type": "object",
                    "properties": {"value": {"type": "integer"}},
                    "required": ["value"],
                    "additionalProperties": False,
                },
            }
        ],
    }


@pytest.mark.asyncio
async def test_the_tokens_of_the_cache_are_counted_as_a_part_of_the_input(serve: Serve, called: Called) -> None:
    body = called({"value": 2}, cache_read_input_tokens=100, cache_creation_input_tokens=20)
    async with asked(serve, 200, body) as model:
        completion = await model.complete(PROMPT, int)
    assert (completion.value, completion.model) == (2, "tiny-1")
    assert completion.usage == Usage(132, 3, cache_read_tokens=100, cache_written_tokens=20)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"value": "two"}, "Expected `int`, got `str` - at `$.value`"),
        ({"value": 2, "sure": True}, "Object contains unknown field `sure`"),
        ({}, "Object missing required field `value`"),
    ],
)
async def test_arguments_that_do_not_fit_are_shown_with_the_validator_s_words(
    serve: Serve, called: Called, arguments: object, why: str
) -> None:
    async with asked(serve, 200, called(arguments)) as model:
        with pytest.raises(SemanticError) as caught:
            await model.complete(PROMPT, int)
    assert caught.value.why == why


@pytest.mark.asyncio
async def test_a_server_that_does_not_count_has_used_nothing(serve: Serve, called: Called) -> None:
    body = json.loads(called({"value": 2}))
    async with asked(serve, 200, json.dumps(body | {"usage": None})) as model:
        assert (await model.complete(PROMPT, int)).usage == Usage()


@pytest.mark.asyncio
async def test_an_answer_in_words_is_no_answer(serve: Serve, called: Called) -> None:
    async with asked(serve, 200, called(None, "end_turn", "I count two.")) as model:
        with pytest.raises(SemanticError, match="was called 0 times") as caught:
            await model.complete(PROMPT, int)
    assert caught.value.said == "I count two."


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("stop", "why"),
    [
        ("max_tokens", "it was cut at 2000 tokens"),
        ("model_context_window_exceeded", "it ended with 'model_context_window_exceeded'"),
        ("pause_turn", "it ended with 'pause_turn'"),
        (None, "it ended with None"),
    ],
)
async def test_an_answer_that_is_not_whole_is_an_error_even_where_it_would_fit(
    serve: Serve, called: Called, stop: str | None, why: str
) -> None:
    async with asked(serve, 200, called({"value": 2}, stop)) as model:
        with pytest.raises(AnswerCut) as caught:
            await model.complete(PROMPT, int)
    assert caught.value.why == why


@pytest.mark.asyncio
async def test_a_refusal_is_no_answer(serve: Serve, called: Called) -> None:
    async with asked(serve, 200, called(None, "refusal", "I would rather not")) as model:
        with pytest.raises(ModelRefused, match="I would rather not"):
            await model.complete(PROMPT, int)


@pytest.mark.asyncio
@pytest.mark.parametrize("body", ["", "{", "<html>the proxy says no</html>", "{}", '{"content": null}', "[]"])
async def test_a_body_that_is_no_message_is_an_unreachable_model(serve: Serve, body: str) -> None:
    async with asked(serve, 200, body) as model:
        with pytest.raises(ModelUnreachable):
            await model.complete(PROMPT, int)


@pytest.mark.asyncio
async def test_a_page_of_html_is_an_unreachable_model(serve: Serve) -> None:
    async with asked(serve, 200, "<html>the proxy says no</html>", {"content-type": "text/html"}) as model:
        with pytest.raises(ModelUnreachable):
            await model.complete(PROMPT, int)


# Failures


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ModelRefused),
        (401, ModelRefused),
        (404, ModelRefused),
        (408, ModelUnreachable),
        (429, ModelThrottled),
        (500, ModelUnreachable),
        (503, ModelUnreachable),
        (529, ModelThrottled),
    ],
)
async def test_a_status_says_what_to_conclude_and_is_asked_once(
    serve: Serve, status: int, error: type[Exception]
) -> None:
    asks: list[int] = []

    def answer(_: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        asks.append(1)
        return status, {}, '{"type": "error", "error": {"type": "x", "message": "no"}}'

    async with model_at(serve(answer)) as model:
        with pytest.raises(error):
            await model.complete(PROMPT, int)
    assert len(asks) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("headers", "seconds"), [({"retry-after": "7"}, 7.0), ({"retry-after": "soon"}, None), ({}, None)]
)
async def test_a_throttled_model_says_how_long_to_wait(
    serve: Serve, headers: dict[str, str], seconds: float | None
) -> None:
    async with asked(serve, 429, '{"error": {"type": "rate_limit_error", "message": "slow"}}', headers) as model:
        with pytest.raises(ModelThrottled) as caught:
            await model.complete(PROMPT, int)
    assert caught.value.retry_after_s == seconds


@pytest.mark.asyncio
async def test_a_connection_that_is_dropped_is_an_unreachable_model(serve: Serve) -> None:
    async with asked(serve, 0, "") as model:
        with pytest.raises(ModelUnreachable):
            await model.complete(PROMPT, int)


@pytest.mark.asyncio
async def test_a_model_that_takes_too_long_is_unreachable(serve: Serve) -> None:
    gone = threading.Event()

    def answer(_: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        gone.wait()
        return 0, {}, ""

    async with model_at(serve(answer), AnthropicOptions(timeout_s=0.05)) as model:
        try:
            with pytest.raises(ModelUnreachable):
                await model.complete(PROMPT, int)
        finally:
            gone.set()


# Making one


def test_without_a_key_it_cannot_be_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # the SDK would also read a profile
    with pytest.raises(ModelRefused, match="tiny cannot be asked"):
        AnthropicModel("tiny")


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"pip install 'regrow\[anthropic\]'"):
        AnthropicModel("tiny", api_key="none")


@pytest.mark.parametrize("wrong", [{"timeout_s": 0}, {"output_tokens_max": 0}])
def test_limits_must_be_positive(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        AnthropicOptions(**wrong)
