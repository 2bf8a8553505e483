"""Rules in the place of a model: plain functions, one for each task. No language model is involved.

What they answer is computed, the same every time, offline and free. Stateless after construction.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from regrow.models.offer import arguments_type
from regrow.models.port import Completion, ModelRefused, Prompt, SemanticError, UnknownTask, Usage

T = TypeVar("T")


class RulesModel:
    """Answers each task by the function given for it; the parameters of the function are its inputs by name.

    A rule that cannot work with its inputs raises `ValueError`, and its words reach the caller.
    """

    name = "rules"
    deterministic = True
    description = "Hand-written rules. No language model is involved: answers are computed from the inputs alone."

    def __init__(self, rules: Mapping[str, Callable[..., Any]]) -> None:
        """Raises `TypeError` for a function whose parameters are not annotated."""
        self._rules = {task: (rule, arguments_type(f"the rule for {task!r}", rule)) for task, rule in rules.items()}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that have a rule."""
        return tuple(self._rules)

    async def complete(self, prompt: Prompt, returns: type[T]) -> Completion[T]:
        """What the rule computes; raises `UnknownTask`, `ModelRefused` for inputs it cannot work with, or `SemanticError`."""
        if prompt.task not in self._rules:
            known = ", ".join(sorted(self._rules)) or "none"
            raise UnknownTask(f"there is no rule for the task {prompt.task!r}; the rules know: {known}")
        rule, inputs = self._rules[prompt.task]
        try:
            # By way of JSON: a rule sees the same whether the inputs are structs or were read from a record.
            given = msgspec.json.decode(msgspec.json.encode(prompt.inputs), type=inputs)
        except msgspec.ValidationError as error:
            raise ModelRefused(f"the inputs do not fit the rule for {prompt.task!r}: {error}") from error
        try:
            value = rule(**{field: getattr(given, field) for field in inputs.__struct_fields__})
        except ValueError as error:
            raise ModelRefused(str(error)) from error
        try:
            fitted = msgspec.convert(msgspec.to_builtins(value), returns)
        except msgspec.ValidationError as error:
            raise SemanticError(self.name, repr(value), str(error)) from error
        return Completion(fitted, Usage(), self.name)
