import email.utils
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pytest

from regrow.models import (
    AnswerCut,
    ContextUnusable,
    ModelRefused,
    ModelThrottled,
    ModelUnreachable,
    OpenAIModel,
    Prompt,
    QuotaUsedUp,
    SemanticError,
    Usage,
)
from regrow.models.openai import Options, response_format

Serve = Callable[[Callable[[dict[str, Any]], tuple[int, dict[str, str], str]]], str]
Said = Callable[..., str]

PROMPT = Prompt("count", " Count the foods. ", {"foods": ["brie", "gouda"]})


def asked(serve: Serve, status: int, body: str, headers: dict[str, str] | None = None) -> OpenAIModel:
    """A model whose endpoint always answers the same."""
    return OpenAIModel("tiny", base_url=serve(lambda _: (status, headers or {}, body)), api_key="none")


# What goes out


@pytest.mark.asyncio
async def test_a_request_carries_instructions_inputs_schema_and_limits(serve: Serve, said: Said) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        seen.append(request)
        return 200, {}, said('{"value": 2}')

    options = Options(output_tokens_max=50, temperature=0.0)
    async with OpenAIModel("tiny", base_url=serve(answer), api_key="none", options=options) as model:
        await model.complete(PROMPT, int)
    (request,) = seen
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["max_completion_tokens"], request["temperature"]) == ("tiny", 50, 0.0)
    assert request["messages"] == [
        {"role": "system", "content": "Count the foods."},
        {"role": "user", "content": '{"foods":["brie","gouda"]}'},
    ]
    assert request["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "name": "count",
            "strict": True,
            "schema": {
                "title": "Answer",
                "type": "object",
                "properties": {"value": {"type": "integer"}},
                "required": ["value"],
                "additionalProperties": False,
            },
        },
    }


@pytest.mark.asyncio
async def test_a_temperature_that_was_not_chosen_is_not_sent(serve: Serve, said: Said) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        seen.append(request)
        return 200, {}, said('{"value": 2}')

    async with OpenAIModel("tiny", base_url=serve(answer), api_key="none") as model:
        await model.complete(PROMPT, int)
    assert "temperature" not in seen[0]


class Cheese(msgspec.Struct):
    name: str
    default: Literal["soft", "hard"] = "soft"
    notes: list[str] = []


class Free(msgspec.Struct):
    amounts: dict[str, float]


class Answer(msgspec.Struct):
    value: list[Cheese]


class FreeAnswer(msgspec.Struct):
    value: Free


class PairAnswer(msgspec.Struct):
    value: tuple[int, str]


def test_a_schema_requires_every_field_and_allows_no_other() -> None:
    wanted = response_format("t", Answer)["json_schema"]
    assert wanted["strict"] is True
    assert wanted["schema"]["properties"] == {"value": {"type": "array", "items": {"$ref": "#/$defs/Cheese"}}}
    assert wanted["schema"]["$defs"]["Cheese"] == {
        "title": "Cheese",
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "default": {"enum": ["hard", "soft"]},
            "notes": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name", "default", "notes"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize("answer", [FreeAnswer, PairAnswer])
def test_what_strict_decoding_cannot_say_is_asked_for_without_it(answer: type[msgspec.Struct]) -> None:
    assert response_format("t", answer)["json_schema"]["strict"] is False


# What comes back


@pytest.mark.asyncio
async def test_a_completion_has_the_value_the_usage_and_the_server_s_name_of_the_model(
    serve: Serve, said: Said
) -> None:
    async with asked(serve, 200, said('{"value": 2}')) as model:
        completion = await model.complete(PROMPT, int)
    assert (completion.value, completion.usage, completion.model) == (2, Usage(12, 3), "tiny-1")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"value": "two"}', "Expected `int`, got `str` - at `$.value`"),
        ('{"value": 2, "sure": true}', "Object contains unknown field `sure`"),
        ("I count two", "JSON is malformed"),
        ("", "Input data was truncated"),
        (None, "Input data was truncated"),
    ],
)
async def test_an_answer_that_does_not_fit_is_shown_with_the_validator_s_words(
    serve: Serve, said: Said, content: str | None, why: str
) -> None:
    async with asked(serve, 200, said(content)) as model:
        with pytest.raises(SemanticError) as caught:
            await model.complete(PROMPT, int)
    assert caught.value.said == (content or "")
    assert caught.value.why.startswith(why)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("finish", "why"),
    [
        ("length", "it was cut at 2000 tokens"),
        ("content_filter", "it ended with 'content_filter' and not with 'stop'"),
        (None, "it ended with None and not with 'stop'"),
    ],
)
async def test_an_answer_that_is_not_whole_is_an_error_even_where_it_would_fit(
    serve: Serve, said: Said, finish: str | None, why: str
) -> None:
    async with asked(serve, 200, said('{"value": 2}', finish)) as model:
        with pytest.raises(AnswerCut) as caught:
            await model.complete(PROMPT, int)
    assert caught.value.why == why


@pytest.mark.asyncio
async def test_a_refusal_is_no_answer(serve: Serve, said: Said) -> None:
    async with asked(serve, 200, said(None, refusal="I would rather not")) as model:
        with pytest.raises(ModelRefused, match="I would rather not"):
            await model.complete(PROMPT, int)


@pytest.mark.asyncio
@pytest.mark.parametrize("body", ["", "{", "<html>the proxy says no</html>", "{}", '{"choices": []}', "[]"])
async def test_a_body_that_is_no_completion_is_an_unreachable_model(serve: Serve, body: str) -> None:
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
        (422, ModelRefused),
        (408, ModelUnreachable),
        (409, ModelUnreachable),
        (500, ModelUnreachable),
        (503, ModelUnreachable),
        (529, ModelThrottled),
        (429, ModelThrottled),
        (402, QuotaUsedUp),
        (413, ContextUnusable),
    ],
)
async def test_a_status_says_what_to_conclude_and_is_asked_once(
    serve: Serve, status: int, error: type[Exception]
) -> None:
    asks: list[int] = []

    def answer(_: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        asks.append(1)
        return status, {}, '{"error": {"message": "no", "code": "x"}}'

    async with OpenAIModel("tiny", base_url=serve(answer), api_key="none") as model:
        with pytest.raises(error):
            await model.complete(PROMPT, int)
    assert len(asks) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
async def test_a_throttled_model_says_how_long_to_wait(
    serve: Serve, headers: dict[str, str], seconds: float | None
) -> None:
    async with asked(serve, 429, '{"error": {"message": "slow down"}}', headers) as model:
        with pytest.raises(ModelThrottled, match="slow down") as caught:
            await model.complete(PROMPT, int)
    assert caught.value.retry_after_s == seconds


@pytest.mark.asyncio
async def test_a_throttled_model_may_say_it_by_a_date(serve: Serve) -> None:
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    async with asked(serve, 429, "{}", {"retry-after": date}) as model:
        with pytest.raises(ModelThrottled) as caught:
            await model.complete(PROMPT, int)
    assert caught.value.retry_after_s is not None
    assert 50 < caught.value.retry_after_s <= 61


@pytest.mark.asyncio
async def test_an_empty_account_is_a_refusal_and_not_a_wait(serve: Serve) -> None:
    async with asked(serve, 429, '{"error": {"message": "pay first", "code": "insufficient_quota"}}') as model:
        with pytest.raises(QuotaUsedUp, match="pay first"):
            await model.complete(PROMPT, int)


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

    options = Options(timeout_s=0.05)
    async with OpenAIModel("tiny", base_url=serve(answer), api_key="none", options=options) as model:
        try:
            with pytest.raises(ModelUnreachable):
                await model.complete(PROMPT, int)
        finally:
            gone.set()


# Making one


def test_without_a_key_it_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    with pytest.raises(ModelRefused, match="tiny cannot be asked"):
        OpenAIModel("tiny")


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"pip install 'regrow\[openai\]'"):
        OpenAIModel("tiny", api_key="none")


@pytest.mark.parametrize("wrong", [{"timeout_s": 0.0}, {"output_tokens_max": 0}])
def test_options_are_checked_when_they_are_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Options(**wrong)
