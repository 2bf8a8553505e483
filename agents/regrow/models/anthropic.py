"""Models behind Anthropic's Messages API.

One request per call and no retries inside, as with every provider here. The answer is asked for as the arguments of
one tool that the model must call, and is decoded strictly. One client may be used by many tasks at once.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import msgspec

from regrow.models.conversation import Assistant, Conversation, ToolCall
from regrow.models.diagnosis import model_error
from regrow.models.offer import Offer
from regrow.models.port import (
    AnswerCut,
    Completion,
    ModelRefused,
    ModelUnreachable,
    Prompt,
    SemanticError,
    Usage,
)
from regrow.models.rendering import anthropic_messages
from regrow.models.schema import answer_type, object_schema

if TYPE_CHECKING:
    from anthropic.types import Message, RawMessageStreamEvent
    from anthropic.types import Usage as Counted

T = TypeVar("T")


class AnthropicOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to ask. The defaults suit short structured answers."""

    timeout_s: float = 60.0  # for the whole answer; a model that takes longer for 2,000 tokens is stuck
    output_tokens_max: int = 2_000  # reached, it is an `AnswerCut`, never a shorter answer

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.output_tokens_max < 1:
            raise ValueError("timeout_s and output_tokens_max must be positive")


class AnthropicModel:
    """A model of Anthropic's, or of a server that speaks as theirs; close it, or use it as a context manager."""

    deterministic = False

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        options: AnthropicOptions | None = None,
    ) -> None:
        """`base_url` (without `/v1`) and `api_key` default to the SDK's own environment variables.

        Raises `ImportError` without the extra `anthropic`, and `ModelRefused` where no key is found.
        """
        try:
            import anthropic
            import httpx2  # what the SDK asks by; a stream that is cut raises its errors as they are
        except ImportError as error:
            raise ImportError("AnthropicModel needs the anthropic package: pip install 'regrow[anthropic]'") from error
        self._anthropic = anthropic
        self._broken = httpx2.RequestError
        self._model = model
        self._options = options or AnthropicOptions()
        self._client = anthropic.AsyncAnthropic(
            base_url=base_url, api_key=api_key, timeout=self._options.timeout_s, max_retries=0
        )
        if self._client.api_key is None and self._client.auth_token is None and self._client.credentials is None:
            raise ModelRefused(f"{model} cannot be asked: no key is given, nor in ANTHROPIC_API_KEY")

    @property
    def name(self) -> str:
        """The model asked for; a completion carries the name that the server gives."""
        return self._model

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._client.close()

    async def complete(self, prompt: Prompt, returns: type[T]) -> Completion[T]:
        """The model's answer as a `returns`.

        Raises `SemanticError` where it does not fit, `AnswerCut` where it is not whole, `ModelThrottled`,
        `ModelUnreachable` or `ModelRefused`.
        """
        answer = answer_type(returns)
        said = await self._ask(prompt, object_schema(answer))
        model = said.model or self._model
        text = self._arguments(said, model)
        try:
            value = cast(Any, msgspec.json.decode(text, type=answer)).value
        except msgspec.DecodeError as error:
            raise SemanticError(model, text.decode(), str(error)) from error
        return Completion(value, usage_of(said.usage), model)

    async def stream(self, conversation: Conversation) -> AsyncGenerator[str | Completion[str], None]:
        """The answer in words, piece by piece as it comes, and as the last item the whole of it as a `Completion`.

        The completion comes only where the provider has said why the model stopped: a stream that breaks off, which the SDK
        passes over in silence, raises `ModelUnreachable`. Otherwise it raises as `complete` does, at any item. Iterate it
        inside `contextlib.aclosing`, and the connection is closed as soon as you leave.
        """
        heard = _Heard(self._model)
        try:
            events = await self._client.messages.create(
                model=self._model,
                max_tokens=self._options.output_tokens_max,
                system=conversation.system or self._anthropic.omit,
                messages=cast(Any, anthropic_messages(conversation)),
                stream=True,
            )
            async with events:
                async for event in events:
                    if piece := heard.take(event):
                        yield piece
        except (self._anthropic.APIError, self._broken, ValueError) as error:
            raise model_error(self._model, error) from error
        yield heard.completion(self._options.output_tokens_max)

    async def reply(self, conversation: Conversation, offers: Sequence[Offer]) -> Completion[Assistant]:
        """What the model says next, and which of the tools it wants called; raises as `complete` does."""
        tools: Any = [
            {"name": offer.name, "description": offer.description, "input_schema": offer.schema} for offer in offers
        ]
        try:
            said = await self._client.messages.create(
                model=self._model,
                max_tokens=self._options.output_tokens_max,
                system=conversation.system or self._anthropic.omit,
                messages=cast(Any, anthropic_messages(conversation)),
                tools=tools or self._anthropic.omit,
            )
        except (self._anthropic.APIError, ValueError) as error:
            raise model_error(self._model, error) from error
        model = self._checked(said).model or self._model
        text = "".join(block.text for block in said.content if block.type == "text")
        check_stop(said.stop_reason, model, text, self._options.output_tokens_max)
        calls = tuple(
            ToolCall(block.id, block.name, msgspec.json.encode(block.input).decode())
            for block in said.content
            if block.type == "tool_use"
        )
        return Completion(Assistant(text, calls), usage_of(said.usage), model)

    async def _ask(self, prompt: Prompt, schema: dict[str, Any]) -> "Message":
        try:
            said = await self._client.messages.create(
                model=self._model,
                max_tokens=self._options.output_tokens_max,
                system=prompt.instructions.strip(),
                messages=[{"role": "user", "content": prompt.render_inputs()}],
                tools=[{"name": prompt.task, "description": "Give the answer.", "input_schema": schema}],
                tool_choice={"type": "tool", "name": prompt.task, "disable_parallel_tool_use": True},
            )
        except (self._anthropic.APIError, ValueError) as error:
            raise model_error(self._model, error) from error
        return self._checked(said)

    def _checked(self, said: "Message") -> "Message":
        """The SDK does not validate: a proxy's page of HTML comes through as a string, a part left out as None."""
        if not isinstance(getattr(said, "content", None), list):
            raise ModelUnreachable(f"what {self._model} sent is no message")
        return said

    def _arguments(self, said: "Message", model: str) -> bytes:
        """The arguments of the tool call, as JSON, of an answer that has come to its end."""
        text = "".join(block.text for block in said.content if block.type == "text")
        check_stop(said.stop_reason, model, text, self._options.output_tokens_max)
        calls = [block.input for block in said.content if block.type == "tool_use"]
        if len(calls) != 1:
            raise SemanticError(model, text, f"the tool is to be called once, and was called {len(calls)} times")
        return msgspec.json.encode(calls[0])


class _Heard:
    """What was heard of a stream so far."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._text = ""
        self._stop: str | None = None
        self._usage = Usage()

    def take(self, event: "RawMessageStreamEvent") -> str:
        """What the event adds to the text. The SDK does not validate: it may be anything that JSON can say."""
        try:
            return self._take(event)
        except (AttributeError, TypeError) as error:
            raise ModelUnreachable(f"what {self._model} sent is no event of a message") from error

    def _take(self, event: "RawMessageStreamEvent") -> str:
        match event.type:
            case "message_start":
                self._model = event.message.model or self._model
                self._usage = usage_of(event.message.usage)
            case "content_block_delta" if event.delta.type == "text_delta":
                self._text += event.delta.text
                return event.delta.text
            case "message_delta":
                self._stop = event.delta.stop_reason or self._stop
                self._usage = msgspec.structs.replace(self._usage, output_tokens=event.usage.output_tokens)
            case _:
                pass
        return ""

    def completion(self, output_tokens_max: int) -> Completion[str]:
        """The whole, if its end was heard."""
        if self._stop is None:
            raise ModelUnreachable(f"{self._model} broke off after {len(self._text)} characters, without a stop reason")
        check_stop(self._stop, self._model, self._text, output_tokens_max)
        return Completion(self._text, self._usage, self._model)


def check_stop(reason: str | None, model: str, text: str, output_tokens_max: int) -> None:
    """Raises `ModelRefused` for a refusal, and `AnswerCut` for whatever else is no end of an answer."""
    match reason:
        case "end_turn" | "tool_use" | "stop_sequence":
            return
        case "refusal":
            raise ModelRefused(f"{model} refuses: {text or 'it does not say why'}")
        case "max_tokens":
            raise AnswerCut(model, text, f"it was cut at {output_tokens_max} tokens")
        case other:
            raise AnswerCut(model, text, f"it ended with {other!r}")


def usage_of(counted: "Counted | None") -> Usage:
    """Anthropic counts what came from the cache and what went into it beside the input; here it is a part of it."""
    if counted is None:
        return Usage()
    read, written = counted.cache_read_input_tokens or 0, counted.cache_creation_input_tokens or 0
    return Usage(counted.input_tokens + read + written, counted.output_tokens, read, written)
