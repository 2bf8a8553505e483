"""Agents: durable actors that talk to a model. Each model call is a step: recorded once, never paid for again."""

from typing import Any, Generic, TypeVar

import msgspec

from regrow.actors import Actor, GiveUp, Repair, Retry, step
from regrow.actors.errors import DEFECT
from regrow.actors.failure_kind import SEMANTIC
from regrow.models import Completion, Model, Prompt, SemanticError
from regrow.supervisor import Backoff

T = TypeVar("T")

RETRY = Retry(attempts=5, backoff=Backoff(first_s=0.5, max_s=30.0), on={DEFECT: GiveUp(), SEMANTIC: GiveUp()})
"""How a step asks its model again: some 8 s in all for one that cannot be reached, and as long as the provider wants while it
says "later". An answer that does not fit is repaired within the attempt."""
REPAIR = Repair()


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
            Asking(self._model, prompt, returns).answer,
            answer[returns],
            pure=self._model.deterministic,
            retry=RETRY,
        )
        return completion.value


class Asking(Generic[T]):
    """One question to a model, over all attempts at its step in this process: what was said about its answers goes along."""

    def __init__(self, model: Model, prompt: Prompt, returns: type[T]) -> None:
        self._model = model
        self._prompt = self._asked = prompt
        self._returns = returns
        self._misfits = 0

    async def answer(self) -> Completion[T]:
        """What fits; raises a ``ModelError``."""
        while True:
            try:
                return await self._model.complete(self._asked, self._returns)
            except SemanticError as error:
                self._misfits += 1
                if self._model.deterministic or self._misfits >= REPAIR.attempts:
                    raise
                self._asked = repaired(self._prompt, error)


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
