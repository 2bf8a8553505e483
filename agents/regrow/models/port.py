"""The port to models: a prompt goes in, a typed value comes out, and every failure says what to conclude.

A model is asked with `complete` and nothing else. Whoever calls decides about retries: no provider here
repeats a request by itself, so attempts can be counted and recorded outside.
"""

from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import msgspec

T = TypeVar("T")


class ModelError(Exception):
    """A model gave no value. `kind` is the kind of failure whose policy applies."""

    kind: ClassVar[str] = "defect"


class SemanticError(ModelError, ValueError):
    """The model answered, and the answer does not fit: `said` is what it said, `why` the validator's words."""

    kind = "semantic"

    def __init__(self, model: str, said: str, why: str) -> None:
        self.model = model
        self.said = said
        self.why = why
        super().__init__(f"the answer of {model} does not fit: {why}")


class AnswerCut(SemanticError):
    """The model stopped before the end of its answer: too long, filtered, or ended without a reason."""


class ModelUnreachable(ModelError, ConnectionError):
    """No answer came: connection, time-out or a 5xx of the server. Worth another attempt."""

    kind = "network"


class ModelThrottled(ModelError):
    """The provider asks to wait: `retry_after_s` seconds, None where it does not say how long."""

    kind = "throttled"

    def __init__(self, said: str, retry_after_s: float | None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(said)


class ModelRefused(ModelError):
    """The provider will not serve this request (a 4xx, a missing key): another attempt changes nothing."""

    kind = "rejected"


class QuotaUsedUp(ModelRefused):
    """What was paid for is used up: it stays so, however long one waits."""

    kind = "quota"


class ContextUnusable(ModelRefused):
    """What was said so far is too long for the model: the same cannot be asked again, something shorter can."""

    kind = "corrupt_context"


class UnknownTask(ModelError, LookupError):
    """These rules have no function for the task of the prompt."""


class Prompt(msgspec.Struct, frozen=True):
    """What a model is asked: the task by name, the instructions in words, and the inputs by name.

    Inputs are whatever msgspec can encode, structs too. The text of a prompt depends on nothing but its
    values: neither on the order of the inputs nor on whether it has been encoded and decoded before.
    """

    task: str
    instructions: str
    inputs: dict[str, Any] = {}

    def render(self) -> str:
        """The prompt as text: instructions first, which providers can cache, then the inputs as sorted JSON."""
        return f"{self.instructions.strip()}\n\n{self.render_inputs()}"

    def render_inputs(self) -> str:
        """The inputs as one JSON object with sorted keys."""
        return msgspec.json.encode(self.inputs, order="sorted").decode()


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call; all 0 where no language model was called or the provider does not count.

    The two of the cache are a part of the input: they cost another price.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_written_tokens: int = 0


class Completion(msgspec.Struct, Generic[T], frozen=True):
    """The value that a model gave, what it used, and the name of the model that answered."""

    value: T
    usage: Usage
    model: str


@runtime_checkable
class Model(Protocol):
    """Anything that answers prompts with typed values."""

    @property
    def name(self) -> str:
        """The name that records carry."""
        ...

    @property
    def deterministic(self) -> bool:
        """Whether equal prompts always get equal values."""
        ...

    async def complete(self, prompt: Prompt, returns: type[T]) -> Completion[T]:
        """The answer as a `returns`; raises a `ModelError`."""
        ...
