"""A model with tools, behind both providers' APIs: the same loop, and a conversation that both would take back."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from regrow.models import (
    AnthropicModel,
    Assistant,
    Completion,
    Conversation,
    Offer,
    OpenAIModel,
    Ran,
    Replies,
    SemanticError,
    ToolCall,
    ToolResult,
    Usage,
    User,
    check,
    run,
)
from regrow.models.conversation_rules import NO_ANSWER
from regrow.models.tool_loop import CALL_IT

pytestmark = pytest.mark.asyncio

TALK = Conversation("Be brief.", (User("How much milk is in brie and gouda?"),))
Serve = Callable[[Callable[[dict[str, Any]], tuple[int, dict[str, str], str]]], str]


class Unknown(Exception):
    """There is no such food."""


async def grams(food: str, portions: int = 1) -> int:
    """Grams of milk in a food."""
    if food == "stone":
        raise Unknown(food)
    return len(food) * portions


def call(id_: str, tool: str, **arguments: Any) -> ToolCall:
    return ToolCall(id_, tool, json.dumps(arguments))


class Scripted:
    """Says what it is told to say, and keeps what it was asked."""

    def __init__(self, *says: Assistant) -> None:
        self.says = list(says)
        self.asked: list[Conversation] = []

    async def reply(self, conversation: Conversation, offers: Sequence[Offer]) -> Completion[Assistant]:
        assert check(conversation) == []
        self.asked.append(conversation)
        return Completion(self.says[len(self.asked) - 1], Usage(1, 1), "scripted")


SCRIPT = (
    Assistant("I look.", (call("a", "grams", food="brie", portions=2), call("b", "grams", food="gouda", portions=1))),
    Assistant("", (call("c", "answer", value=13),)),
)


@pytest_asyncio.fixture(params=["scripted", "openai", "anthropic"])
async def model(request: pytest.FixtureRequest, serve: Serve, said: Callable[..., str]) -> AsyncIterator[Replies]:
    left = list(SCRIPT)

    def openai(request: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        assert [tool["function"]["name"] for tool in request["tools"]] == ["grams", "answer"]
        says = left.pop(0)
        calls = [
            {"id": each.id, "type": "function", "function": {"name": each.tool, "arguments": each.arguments}}
            for each in says.calls
        ]
        return 200, {}, said(says.text or None, "tool_calls", tool_calls=calls)

    def anthropic(request: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        assert [tool["name"] for tool in request["tools"]] == ["grams", "answer"]
        says = left.pop(0)
        text = [{"type": "text", "text": says.text}] if says.text else []
        calls = [
            {"type": "tool_use", "id": each.id, "name": each.tool, "input": json.loads(each.arguments)}
            for each in says.calls
        ]
        message = {"id": "m", "type": "message", "role": "assistant", "model": "tiny-1", "content": [*text, *calls]}
        return (
            200,
            {},
            json.dumps(message | {"stop_reason": "tool_use", "usage": {"input_tokens": 12, "output_tokens": 3}}),
        )

    if request.param == "scripted":
        yield Scripted(*SCRIPT)
    elif request.param == "openai":
        async with OpenAIModel("tiny", base_url=serve(openai), api_key="none") as opened:
            yield opened
    else:
        async with AnthropicModel("tiny", base_url=serve(anthropic).removesuffix("/v1"), api_key="none") as other:
            yield other


async def test_tools_are_called_until_the_answer_is_given(model: Replies) -> None:
    ran = await run(model, TALK, [grams], int)
    assert ran.value == 13
    assert check(ran.conversation) == []
    assert ran.conversation.messages[2:4] == (ToolResult("a", "8"), ToolResult("b", "5"))
    assert isinstance(ran.conversation.messages[-1], Assistant)
    assert len(ran.replies) == 2
    assert ran.conversation.messages[:1] == TALK.messages


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (call("a", "grams", food=1, portions=1), "The arguments do not fit: Expected `str`, got `int` - at `$.food`"),
        (call("a", "grams", food="stone", portions=1), "Unknown: stone"),
        (call("a", "weigh"), "There is no tool 'weigh'; there are: grams, answer."),
        (call("a", "answer", value="much"), "The arguments do not fit: Expected `int`, got `str` - at `$.value`"),
    ],
)
async def test_what_goes_wrong_is_told_to_the_model_which_goes_on(wrong: ToolCall, told: str) -> None:
    model = Scripted(Assistant("", (wrong,)), Assistant("", (call("b", "answer", value=1),)))
    assert (await run(model, TALK, [grams], int, raises=(Unknown,))).value == 1
    assert model.asked[1].messages[-1] == ToolResult("a", told, is_error=True)


async def test_a_model_that_answers_in_words_is_asked_to_call_the_tool() -> None:
    model = Scripted(Assistant("Thirteen."), Assistant("", (call("a", "answer", value=13),)))
    ran = await run(model, TALK, [], int)
    assert ran.value == 13
    assert check(ran.conversation) == []
    assert isinstance(model.asked[1].messages[-1], User)


async def test_a_model_that_comes_to_no_answer_is_left_after_its_replies() -> None:
    model = Scripted(*[Assistant("", (call("a", "grams", food="brie", portions=1),))] * 3)
    with pytest.raises(SemanticError, match="3 replies have brought no answer"):
        await run(model, TALK, [grams], int, replies_max=3)
    assert len(model.asked) == 3


async def test_a_model_that_says_nothing_is_asked_again_and_no_tool_is_called_twice() -> None:
    weighed: list[str] = []

    async def weigh(food: str) -> int:
        weighed.append(food)
        return 8

    model = Scripted(
        Assistant("", (call("a", "weigh", food="brie"),)),
        Assistant(" "),
        Assistant("", (call("b", "answer", value=8),)),
    )
    ran = await run(model, TALK, [weigh], int)
    assert ran.value == 8
    assert weighed == ["brie"]
    assert model.asked[2].messages[: len(model.asked[1].messages)] == model.asked[1].messages
    assert model.asked[2].messages[-2:] == (Assistant(NO_ANSWER), User(CALL_IT))


async def test_a_server_that_gives_the_same_ids_again_is_understood() -> None:
    twice = [Assistant("", (call("call_0", "grams", food="brie", portions=n),)) for n in (1, 2)]
    model = Scripted(*twice, Assistant("", (call("call_0", "answer", value=8),)))
    ran = await run(model, TALK, [grams], int)
    results = [message for message in ran.conversation.messages if isinstance(message, ToolResult)]
    assert [(result.call, result.text) for result in results] == [
        ("call_0", "4"),
        ("call_0_2", "8"),
        ("call_0_3", "Taken."),
    ]


@pytest.mark.parametrize("messages", [(), (User("a"), Assistant("b")), (Assistant("a"), User("b"))])
async def test_a_run_begins_with_what_the_user_says(messages: tuple[User | Assistant, ...]) -> None:
    with pytest.raises(ValueError, match="a run begins with what the user says"):
        await run(Scripted(), Conversation("", messages), [], int)


async def test_cancelled_at_any_await_a_run_leaves_nothing_half_done_and_can_begin_again() -> None:
    class Hanging(Scripted):
        async def reply(self, conversation: Conversation, offers: Sequence[Offer]) -> Completion[Assistant]:
            await at("reply")
            return await super().reply(conversation, offers)

    async def at(place: str) -> None:
        passed.append(place)
        if len(passed) == stop:
            reached.set()
            await asyncio.Event().wait()

    async def weigh(food: str) -> int:
        await at(food)
        return 8

    script = (
        Assistant("", (call("a", "weigh", food="brie"), call("b", "weigh", food="gouda"))),
        Assistant("", (call("c", "answer", value=16),)),
    )
    for stop in range(1, 5):
        passed, reached = list[str](), asyncio.Event()
        running = asyncio.create_task(run(Hanging(*script), TALK, [weigh], int))
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        stop = 0
        assert (await run(Hanging(*script), TALK, [weigh], int)).value == 16


async def test_a_tool_that_breaks_ends_the_run_and_the_tools_beside_it() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def breaks() -> None:
        await begun.wait()
        raise Unknown("it")

    model = Scripted(Assistant("", (call("a", "waits"), call("b", "breaks"))))
    with pytest.raises(Unknown):
        await run(model, TALK, [waits, breaks], int)
    assert ended.is_set()


async def test_tools_need_names_of_their_own() -> None:
    async def answer() -> None: ...

    with pytest.raises(ValueError, match="none may be 'answer'"):
        await run(Scripted(), TALK, [answer], int)


async def test_a_parameter_of_a_tool_must_be_annotated() -> None:
    async def bare(food) -> None: ...  # type: ignore[no-untyped-def]  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]

    with pytest.raises(TypeError, match="'bare' must annotate its parameter 'food'"):
        Offer.of(bare)  # pyright: ignore[reportUnknownArgumentType]


async def test_a_run_can_be_recorded() -> None:
    ran = await run(Scripted(*SCRIPT), TALK, [grams], int)
    assert msgspec.json.decode(msgspec.json.encode(ran), type=Ran[int]) == ran
