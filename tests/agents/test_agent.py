"""How an agent asks its model: what may pass is tried again, what may not fails at once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import pytest

from regrow.agents import ModelPort, agent
from regrow.agents.agent import repaired
from regrow.models import (
    Completion,
    ContextUnusable,
    ModelError,
    ModelRefused,
    ModelThrottled,
    ModelUnreachable,
    Prompt,
    QuotaUsedUp,
    SemanticError,
    UnknownTask,
    Usage,
)
from regrow.supervisor import Backoff

T = TypeVar("T")

PROMPT = Prompt("count", "Count.", {"words": ["a"]})


class Scripted:
    """A model that raises each of these and then answers 7."""

    name = "scripted"

    def __init__(self, errors: Sequence[ModelError], *, deterministic: bool = False) -> None:
        self.deterministic = deterministic
        self.asked: list[Prompt] = []
        self._errors = list(errors)

    async def complete(self, prompt: Prompt, returns: type[T]) -> Completion[T]:
        self.asked.append(prompt)
        if self._errors:
            raise self._errors.pop(0)
        seven: Any = 7
        return Completion(seven, Usage(), self.name)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "RETRY", msgspec.structs.replace(agent.RETRY, backoff=Backoff(first_s=0)))


def unreachable() -> ModelError:
    return ModelUnreachable("no answer")


def throttled() -> ModelError:
    return ModelThrottled("slower", retry_after_s=0.001)


def misfit() -> ModelError:
    return SemanticError("scripted", "x", "expected int")


@pytest.mark.asyncio
@pytest.mark.parametrize(("error", "attempts_max"), [(unreachable, 5), (misfit, 3)])
async def test_a_failure_that_may_pass_is_tried_again_up_to_its_limit(
    error: Callable[[], ModelError], attempts_max: int
) -> None:
    model = Scripted([error() for _ in range(attempts_max - 1)])
    assert await ModelPort(model).complete(PROMPT, int) == 7
    assert len(model.asked) == attempts_max
    with pytest.raises(type(error())):
        await ModelPort(Scripted([error() for _ in range(attempts_max)])).complete(PROMPT, int)


@pytest.mark.asyncio
async def test_what_a_throttled_model_and_misfits_cost_leaves_the_other_attempts_as_they_are() -> None:
    throttling = [throttled() for _ in range(20)]
    model = Scripted([unreachable(), misfit(), *throttling, *(unreachable() for _ in range(3)), misfit()])
    assert await ModelPort(model).complete(PROMPT, int) == 7


@pytest.mark.asyncio
async def test_a_model_that_asks_for_more_time_than_there_is_is_not_waited_for() -> None:
    model = Scripted([ModelThrottled("tomorrow", retry_after_s=86_400.0)])
    with pytest.raises(ModelThrottled, match="tomorrow"):
        await ModelPort(model).complete(PROMPT, int)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "error", [ModelRefused("no key"), QuotaUsedUp("pay"), ContextUnusable("long"), UnknownTask("x")]
)
async def test_a_refusal_is_final(error: ModelError) -> None:
    model = Scripted([error])
    with pytest.raises(type(error)):
        await ModelPort(model).complete(PROMPT, int)
    assert len(model.asked) == 1


@pytest.mark.asyncio
async def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_reason() -> None:
    model = Scripted([misfit(), unreachable()])
    await ModelPort(model).complete(PROMPT, int)
    assert "Your last answer did not fit: expected int" in model.asked[1].instructions
    assert model.asked[1] == model.asked[2] == repaired(PROMPT, SemanticError("scripted", "x", "expected int"))
    assert model.asked[1].inputs == PROMPT.inputs


@pytest.mark.asyncio
async def test_a_deterministic_model_is_not_asked_to_think_again() -> None:
    model = Scripted([misfit()], deterministic=True)
    with pytest.raises(SemanticError):
        await ModelPort(model).complete(PROMPT, int)
    assert len(model.asked) == 1


def test_a_port_tells_the_name_of_its_model() -> None:
    assert ModelPort(Scripted([])).name == "scripted"
