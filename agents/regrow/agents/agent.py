"""Agents: durable actors that talk to a model. Each model call is a step: recorded once, never paid for again."""

import asyncio
import itertools
import random
import time
from typing import Any, TypeVar

import msgspec

from regrow.actors import Actor, GiveUp, Retry, step
from regrow.actors.errors import DEFECT
from regrow.actors.step import failure_of
from regrow.models import Completion, Model, ModelError, Prompt, SemanticError
from regrow.supervisor import Backoff

T = TypeVar("T")

RETRY = Retry(attempts=5, backoff=Backoff(first_s=0.5, max_s=30.0), on={DEFECT: GiveUp()})
"""How a model is asked again: some 8 s in all for one that cannot be reached, three times for an answer that fits, and as long
as the provider wants while it says "later"."""


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
        ``StepFailed`` whose ``kind`` says what went wrong: ``semantic``, ``network``, ``throttled``, ``quota``, ``rejected`` …
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
        asked, apart, began_s = prompt, dict[str, int](), time.monotonic()
        for attempt in itertools.count(1):
            try:
                return await self._model.complete(asked, returns)
            except ModelError as error:
                failed = failure_of(error, ())
                wait_s = RETRY.wait_s(attempt, failed, time.monotonic() - began_s, random.random(), apart)
                if wait_s is None or (self._model.deterministic and isinstance(error, SemanticError)):
                    raise
                apart = RETRY.counted(apart, failed.kind)
                if isinstance(error, SemanticError):
                    asked = repaired(prompt, error)
                else:
                    await asyncio.sleep(wait_s)
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
