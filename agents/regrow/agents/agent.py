"""Agents: durable actors that talk to a model. Each model call is a step: recorded once, never paid for again."""

from typing import Any, TypeVar

from regrow.actors import Actor, step
from regrow.models import Completion, Model, Prompt

T = TypeVar("T")


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

        Raises ``StepFailed`` whose ``kind`` says what went wrong: ``semantic``, ``network``, ``throttled`` or ``defect``.
        """
        answer: Any = Completion  # indexed by a value, which no checker reads as a type
        completion: Completion[T] = await step(
            f"model.{prompt.task}",
            {"prompt": prompt, "returns": returns.__name__},
            lambda: self._model.complete(prompt, returns),
            answer[returns],
            pure=self._model.deterministic,
        )
        return completion.value


class Agent(Actor):
    """A durable actor with a model; give the system one: ``System(ports={"model": …})``."""

    @property
    def model(self) -> ModelPort:
        """The system's model."""
        model: Any = self.port("model")
        return ModelPort(model)
