"""Streams of the real SDKs, from a server on the loopback that cuts them at every place: half an answer is never a completion."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from regrow.models import (
    AnswerCut,
    AnthropicModel,
    Assistant,
    Completion,
    Conversation,
    ModelError,
    ModelRefused,
    ModelThrottled,
    ModelUnreachable,
    OpenAIModel,
    Usage,
    User,
)

pytestmark = pytest.mark.asyncio

TALK = Conversation("Be brief.", (User("Hello."), Assistant("Hello."), User("What is in brie?")))
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
Streaming = OpenAIModel | AnthropicModel


def openai_events(finish: str | None = "stop", **delta: str) -> list[str]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _openai({"choices": [choice]})

    usage = {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 8},
    }
    pieces = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Milk "}),
        chunk({"content": "and salt."} | delta),
    ]
    return [*pieces, chunk({}, finish), _openai({"choices": [], "usage": usage}), "data: [DONE]\n\n"]


def _openai(fields: dict[str, Any]) -> str:
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "tiny-1", **fields}
    return f"data: {json.dumps(whole)}\n\n"


def anthropic_events(stop: str | None = "end_turn") -> list[str]:
    message: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "tiny-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 4, "cache_read_input_tokens": 8, "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Milk "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "and salt."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]


PROVIDERS: dict[str, tuple[Callable[[str], Streaming], Callable[..., list[str]]]] = {
    "openai": (lambda url: OpenAIModel("tiny", base_url=f"{url}/v1", api_key="none"), openai_events),
    "anthropic": (lambda url: AnthropicModel("tiny", base_url=url, api_key="none"), anthropic_events),
}
FINISHES = {"openai": 3, "anthropic": 5}
"""The event that carries the finish reason."""

both = pytest.mark.parametrize("provider", PROVIDERS)


def chunked(events: list[str]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(each.encode()), each.encode()) for each in events)


@asynccontextmanager
async def serving(said: bytes, seen: list[bytes] | None = None) -> AsyncGenerator[str]:
    """A server that answers any request with these bytes and hangs up; gives its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.split(b":")[1]))
        if seen is not None:
            seen.append(body)
        writer.write(said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def heard(items: AsyncGenerator[str | Completion[str], None]) -> list[str | Completion[str]]:
    async with aclosing(items):
        return [item async for item in items]


async def hear(provider: str, said: bytes) -> tuple[list[str | Completion[str]], ModelError | None]:
    """The items until the end, or until the error, which is given beside them."""
    items: list[str | Completion[str]] = []
    async with serving(said) as url, PROVIDERS[provider][0](url) as model, aclosing(model.stream(TALK)) as stream:
        try:
            async for item in stream:
                items.append(item)  # noqa: PERF401 # what came before the error is wanted
        except ModelError as error:
            return items, error
    return items, None


@both
async def test_the_pieces_come_first_and_the_completion_last(provider: str) -> None:
    items, error = await hear(provider, HEAD + chunked(PROVIDERS[provider][1]()) + END)
    assert error is None
    assert items == ["Milk ", "and salt.", Completion("Milk and salt.", Usage(12, 3, 8), "tiny-1")]


@both
async def test_a_stream_that_ends_in_silence_anywhere_before_its_finish_reason_gives_no_completion(
    provider: str,
) -> None:
    events = PROVIDERS[provider][1]()
    for end in range(FINISHES[provider] + 1):
        items, error = await hear(provider, HEAD + chunked(events[:end]) + END)
        assert isinstance(error, ModelUnreachable), end
        assert not any(isinstance(item, Completion) for item in items)
    items, error = await hear(provider, HEAD + chunked(events[: FINISHES[provider] + 1]) + END)
    assert error is None
    assert isinstance(items[-1], Completion)


@both
async def test_a_stream_whose_connection_is_dropped_anywhere_is_an_unreachable_model(provider: str) -> None:
    events = PROVIDERS[provider][1]()
    for end in range(FINISHES[provider] + 1):
        items, error = await hear(provider, HEAD + chunked(events[:end]) + b"40\r\nda")
        assert isinstance(error, ModelUnreachable), end
        assert not any(isinstance(item, Completion) for item in items)


@both
@pytest.mark.parametrize("junk", ["{", "{}", "[]", "null", "1", '{"choices": [{}]}', '{"type": "content_block_delta"}'])
async def test_an_event_that_is_none_never_makes_a_completion(provider: str, junk: str) -> None:
    events = PROVIDERS[provider][1]()[:2]
    broken = f"event: content_block_delta\ndata: {junk}\n\n"
    items, error = await hear(provider, HEAD + chunked([*events, broken]) + END)
    assert isinstance(error, ModelUnreachable)
    assert not any(isinstance(item, Completion) for item in items)


@both
async def test_a_page_of_html_is_an_unreachable_model(provider: str) -> None:
    page = b"<html>the proxy says no</html>"
    said = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n%s" % (len(page), page)
    items, error = await hear(provider, said)
    assert items == []
    assert isinstance(error, ModelUnreachable)


@pytest.mark.parametrize(
    ("provider", "finish"), [("openai", "length"), ("openai", "content_filter"), ("anthropic", "max_tokens")]
)
async def test_an_answer_that_was_cut_is_no_completion(provider: str, finish: str) -> None:
    items, error = await hear(provider, HEAD + chunked(PROVIDERS[provider][1](finish)) + END)
    assert items == ["Milk ", "and salt."]
    assert isinstance(error, AnswerCut)
    assert error.said == "Milk and salt."


@pytest.mark.parametrize(
    ("provider", "events"),
    [("openai", openai_events(content="", refusal="I would rather not")), ("anthropic", anthropic_events("refusal"))],
)
async def test_a_refusal_is_no_completion(provider: str, events: list[str]) -> None:
    _, error = await hear(provider, HEAD + chunked(events) + END)
    assert isinstance(error, ModelRefused)


@both
async def test_a_stream_that_is_refused_says_how_long_to_wait(provider: str) -> None:
    said = b"HTTP/1.1 429 No\r\nretry-after: 7\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    _, error = await hear(provider, said)
    assert isinstance(error, ModelThrottled)
    assert error.retry_after_s == 7.0


@both
async def test_the_whole_conversation_is_sent(provider: str) -> None:
    seen: list[bytes] = []
    said = HEAD + chunked(PROVIDERS[provider][1]()) + END
    async with serving(said, seen) as url, PROVIDERS[provider][0](url) as model:
        await heard(model.stream(TALK))
    request = json.loads(seen[0])
    assert request["stream"] is True
    assert [message["role"] for message in request["messages"]][-3:] == ["user", "assistant", "user"]
    assert "Be brief." in (request["messages"][0]["content"], request.get("system"))
