"""Agents: durable actors that talk to a model. Each model call is a step: recorded once, never paid for again."""

import asyncio
import itertools
import random
from typing import Any, TypeVar

import msgspec

from regrow.actors import Actor, step
from regrow.models import Completion, Model, ModelError, ModelThrottled, Prompt, SemanticError
from regrow.supervisor import Backoff

T = TypeVar("T")

ATTEMPTS_MAX = {"network": 5, "throttled": 8, "semantic": 3}
"""How often a model is asked, by the kind of failure; of any other kind the first failure is final."""
BACKOFF = Backoff(first_s=0.5, max_s=30.0)
"""Between attempts where the provider does not say how long to wait: some 8 s in all for a model that cannot be reached."""


class ModelPort:
    """A model as a running handler sees it."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def name(self) -> str:
        """The name that the records of this model carry; ``rules`` means that no language model is involved."""
        return self._model.name

    async def complete(self, prompt: Prompt, returns: type[T]) -> T:
        """The model's answer as a ``returns``, recorded with the prompt, its usage and the model's name.

        A failure that may pass is tried again first, an answer that does not fit with the reason added to the prompt. Raises
        ``StepFailed`` whose ``kind`` says what went wrong: ``semantic``, ``network``, ``throttled`` or ``defect``.
        """
        answer: Any = Completion  # indexed by a value, which no checker reads as a type
        completion: Completion[T] = await step(
            f"model.{prompt.task}",
            {"prompt": prompt, "returns": returns.__name__},
            lambda: self._answer(prompt, returns),
            answer[returns],
            pure=self._model.deterministic,
        )
        return completion.value

    async def _answer(self, prompt: Prompt, returns: type[T]) -> Completion[T]:
        asked = prompt
        for attempt in itertools.count(1):
            try:
                return await self._model.complete(asked, returns)
            except ModelError as error:
                certain = self._model.deterministic and isinstance(error, SemanticError)
                if certain or attempt >= ATTEMPTS_MAX.get(error.kind, 1):
                    raise
                if isinstance(error, SemanticError):
                    asked = repaired(prompt, error)
                    continue
                await asyncio.sleep(_pause_s(error, attempt))
        raise AssertionError("an attempt returns or raises")


class Agent(Actor):
    """A durable actor with a model; give the system one: ``System(ports={"model": …})``."""

    @property
    def model(self) -> ModelPort:
        """The system's model."""
        model: Any = self.port("model")
        return ModelPort(model)


def repaired(prompt: Prompt, error: SemanticError) -> Prompt:
    """The prompt once more, with the validator's words about the last answer."""
    said = f"{prompt.instructions}\n\nYour last answer did not fit: {error.why}. Answer again, so that it fits."
    return msgspec.structs.replace(prompt, instructions=said)


def _pause_s(error: ModelError, attempt: int) -> float:
    if isinstance(error, ModelThrottled) and error.retry_after_s is not None:
        return error.retry_after_s
    return BACKOFF.delay_s(attempt - 1, random.random())
