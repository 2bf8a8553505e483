"""Any server that speaks OpenAI's chat completions: OpenAI itself, or llama.cpp, vLLM, Ollama on this machine.

One request per call and no retries inside, so every attempt can be seen and recorded by the caller. The
answer is asked for by JSON schema and decoded strictly; half an answer is never given out. One client may
be used by many tasks at once.
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
from regrow.models.rendering import openai_messages
from regrow.models.schema import answer_type, may_be_strict, object_schema

if TYPE_CHECKING:
    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

T = TypeVar("T")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to ask. The defaults suit short structured answers."""

    timeout_s: float = 60.0  # for the whole answer; a model that takes longer for 2,000 tokens is stuck
    output_tokens_max: int = 2_000  # reached, it is an `AnswerCut`, never a shorter answer
    temperature: float | None = None  # None: the provider's own; some models take no other

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.output_tokens_max < 1:
            raise ValueError("timeout_s and output_tokens_max must be positive")


class OpenAIModel:
    """A model behind an OpenAI-compatible endpoint; close it, or use it as a context manager."""

    deterministic = False

    def __init__(
        self, model: str, *, base_url: str | None = None, api_key: str | None = None, options: Options | None = None
    ) -> None:
        """`base_url` and `api_key` default to the SDK's own environment variables.

        Raises `ImportError` without the extra `openai`, and `ModelRefused` where no key is found.
        """
        try:
            import openai
        except ImportError as error:
            raise ImportError("OpenAIModel needs the openai package: pip install 'regrow[openai]'") from error
        self._openai = openai
        self._model = model
        self._options = options or Options()
        try:
            self._client = openai.AsyncOpenAI(
                base_url=base_url, api_key=api_key, timeout=self._options.timeout_s, max_retries=0
            )
        except openai.OpenAIError as error:
            raise ModelRefused(f"{model} cannot be asked: {error}") from error

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
        said = await self._ask(prompt, response_format(prompt.task, answer))
        model = said.model or self._model
        text = self._whole(said, model)
        try:
            value = cast(Any, msgspec.json.decode(text, type=answer)).value
        except msgspec.DecodeError as error:
            raise SemanticError(model, text, str(error)) from error
        return Completion(value, usage_of(said.usage), model)

    async def stream(self, conversation: Conversation) -> AsyncGenerator[str | Completion[str], None]:
        """The answer in words, piece by piece as it comes, and as the last item the whole of it as a `Completion`.

        The completion comes only where the provider has said that this is the end: a stream that breaks off, which the SDK
        passes over in silence, raises `ModelUnreachable`. Otherwise it raises as `complete` does, at any item. Iterate it
        inside `contextlib.aclosing`, and the connection is closed as soon as you leave.
        """
        heard = _Heard(self._model)
        options = self._options
        try:
            chunks = await self._client.chat.completions.create(
                model=self._model,
                messages=cast(Any, openai_messages(conversation)),
                stream=True,
                stream_options={"include_usage": True},
                max_completion_tokens=options.output_tokens_max,
                temperature=self._openai.omit if options.temperature is None else options.temperature,
            )
            async with chunks:
                async for chunk in chunks:
                    if piece := heard.take(chunk):
                        yield piece
        except (self._openai.APIError, ValueError) as error:
            raise model_error(self._model, error) from error
        yield heard.completion(options.output_tokens_max)

    async def reply(self, conversation: Conversation, offers: Sequence[Offer]) -> Completion[Assistant]:
        """What the model says next, and which of the tools it wants called; raises as `complete` does."""
        options = self._options
        tools: Any = [
            {
                "type": "function",
                "function": {"name": offer.name, "description": offer.description, "parameters": offer.schema},
            }
            for offer in offers
        ]
        try:
            said = await self._client.chat.completions.create(
                model=self._model,
                messages=cast(Any, openai_messages(conversation)),
                tools=tools or self._openai.omit,
                max_completion_tokens=options.output_tokens_max,
                temperature=self._openai.omit if options.temperature is None else options.temperature,
            )
        except (self._openai.APIError, ValueError) as error:
            raise model_error(self._model, error) from error
        model = self._checked(said).model or self._model
        text = self._whole(said, model)
        calls = tuple(
            ToolCall(call.id, call.function.name, call.function.arguments)
            for call in said.choices[0].message.tool_calls or ()
            if call.type == "function"
        )
        return Completion(Assistant(text, calls), usage_of(said.usage), model)

    async def _ask(self, prompt: Prompt, format_wanted: Any) -> "ChatCompletion":
        options = self._options
        try:
            said = await self._client.chat.completions.create(
                model=self._model,
                messages=[
                    {"role": "system", "content": prompt.instructions.strip()},
                    {"role": "user", "content": prompt.render_inputs()},
                ],
                response_format=format_wanted,
                max_completion_tokens=options.output_tokens_max,
                temperature=self._openai.omit if options.temperature is None else options.temperature,
            )
        except (self._openai.APIError, ValueError) as error:
            raise model_error(self._model, error) from error
        return self._checked(said)

    def _checked(self, said: "ChatCompletion") -> "ChatCompletion":
        """The SDK does not validate: a proxy's page of HTML comes through as a string, a part left out as None."""
        if not getattr(said, "choices", None) or said.choices[0].message is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise ModelUnreachable(f"what {self._model} sent is no chat completion")
        return said

    def _whole(self, said: "ChatCompletion", model: str) -> str:
        """The text of an answer that has come to its end."""
        choice = said.choices[0]
        text = choice.message.content or ""
        if choice.message.refusal:
            raise ModelRefused(f"{model} refuses: {choice.message.refusal}")
        check_finish(choice.finish_reason, model, text, self._options.output_tokens_max)
        return text


class _Heard:
    """What was heard of a stream so far."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._text = ""
        self._refusal = ""
        self._finish: str | None = None
        self._counted: CompletionUsage | None = None

    def take(self, chunk: "ChatCompletionChunk") -> str:
        """What the chunk adds to the text. The SDK does not validate: it may be anything that JSON can say."""
        try:
            return self._take(chunk)
        except (AttributeError, TypeError) as error:
            raise ModelUnreachable(f"what {self._model} sent is no chunk of a chat completion") from error

    def _take(self, chunk: "ChatCompletionChunk") -> str:
        self._model = chunk.model or self._model
        self._counted = chunk.usage or self._counted
        if not chunk.choices:  # the last one, with the usage
            return ""
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        self._refusal += choice.delta.refusal or ""
        piece = choice.delta.content or ""
        self._text += piece
        return piece

    def completion(self, output_tokens_max: int) -> Completion[str]:
        """The whole, if its end was heard."""
        if self._finish is None:
            raise ModelUnreachable(
                f"{self._model} broke off after {len(self._text)} characters, without a finish reason"
            )
        if self._refusal:
            raise ModelRefused(f"{self._model} refuses: {self._refusal}")
        check_finish(self._finish, self._model, self._text, output_tokens_max)
        return Completion(self._text, usage_of(self._counted), self._model)


def check_finish(reason: str | None, model: str, text: str, output_tokens_max: int) -> None:
    """Raises `AnswerCut` for whatever is no end of an answer."""
    match reason:
        case "stop" | "tool_calls":
            return
        case "length":
            raise AnswerCut(model, text, f"it was cut at {output_tokens_max} tokens")
        case other:
            raise AnswerCut(model, text, f"it ended with {other!r} and not with 'stop'")


def usage_of(counted: "CompletionUsage | None") -> Usage:
    """What was counted; what was read from the cache is a part of the input."""
    if counted is None:
        return Usage()
    details = counted.prompt_tokens_details
    cached = details.cached_tokens if details else None
    return Usage(counted.prompt_tokens, counted.completion_tokens, cached or 0)


def response_format(task: str, answer: type[msgspec.Struct]) -> dict[str, Any]:
    """The request for an answer of that type, for chat completions.

    "strict" makes the server decode by the schema, but allows no free-form maps and no tuples of a fixed
    length (OpenAI, "Structured outputs", supported schemas); where those occur the schema is a hint, and
    msgspec decides alone.
    """
    schema = object_schema(answer)
    return {"type": "json_schema", "json_schema": {"name": task, "schema": schema, "strict": may_be_strict(schema)}}
