"""A model whose calls are seen by the witness, as those of tools are."""

from typing import TypeVar

from regrow.actors.witness import witness
from regrow.models import Completion, Model, Prompt

T = TypeVar("T")


class Witnessed:
    """A model whose calls are seen by the witness too."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.name = model.name
        self.deterministic = model.deterministic

    async def complete(self, prompt: Prompt, returns: type[T]) -> Completion[T]:
        """The model's answer."""
        witness()
        return await self._model.complete(prompt, returns)
