"""How an agent asks its model: what may pass is tried again, what may not fails at once, and a death forgets no attempt."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from regrow.actors import Kind, Message, Node, Policy, Refused, StepFailed, System, command
from regrow.actors.records import Entry, Record, Started, Turn
from regrow.agents import Agent, ModelPort
from regrow.agents.agent import repaired
from regrow.bus import Address, MemoryBus, decode
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
from regrow.testing import in_memory, virtual_time

T = TypeVar("T")

PROMPT = Prompt("count", "Count.", {"words": ["a"]})
APP = "counting"


class Scripted:
    """A model that raises each of these and then answers 7."""

    name = "scripted"

    def __init__(self, errors: Sequence[ModelError] = (), *, deterministic: bool = False) -> None:
        self.deterministic = deterministic
        self.asked: list[Prompt] = []
        self.times_s: list[float] = []
        self._errors = list(errors)

    async def complete(self, prompt: Prompt, returns: type[T]) -> Completion[T]:
        self.asked.append(prompt)
        self.times_s.append(asyncio.get_running_loop().time())
        if self._errors:
            raise self._errors.pop(0)
        seven: Any = 7
        return Completion(seven, Usage(), self.name)


class Count(Message[int]):
    pass


class Counter(Agent):
    @command
    async def count(self, msg: Count) -> int:
        try:
            return await self.model.complete(PROMPT, int)
        except StepFailed as failed:
            raise Refused(failed.kind, error=failed.error, after_s=failed.retry_after_s) from failed


@asynccontextmanager
async def hosted(model: Scripted, bus: MemoryBus) -> AsyncGenerator[Node]:
    system = System(APP, [Kind(actor=Counter, policy=Policy(suspend_after_s=5.0))], ports={"model": model})
    async with in_memory(system.checked(), bus=bus) as node:
        yield node


async def entries(bus: MemoryBus) -> list[Entry]:
    stored = await bus.log.read(Address("counter", "a"))
    return [entry for each in stored for entry in decode(each.data, Record, "record").entries]


async def count(model: Scripted) -> int:
    async with hosted(model, MemoryBus(APP)) as node:
        return await node.ref(Counter, "a").ask(Count(), timeout_s=1e6)


def unreachable() -> ModelError:
    return ModelUnreachable("no answer")


def throttled() -> ModelError:
    return ModelThrottled("slower", retry_after_s=5.0)


def misfit() -> ModelError:
    return SemanticError("scripted", "x", "expected int")


@pytest.mark.parametrize(("error", "kind", "attempts_max"), [(unreachable, "network", 5), (misfit, "semantic", 3)])
def test_a_failure_that_may_pass_is_tried_again_up_to_its_limit(
    error: Callable[[], ModelError], kind: str, attempts_max: int
) -> None:
    @virtual_time
    async def play() -> None:
        model = Scripted([error() for _ in range(attempts_max - 1)])
        assert await count(model) == 7
        assert len(model.asked) == attempts_max
        model = Scripted([error() for _ in range(attempts_max)])
        with pytest.raises(Refused, match=kind):
            await count(model)
        assert len(model.asked) == attempts_max

    play()


@virtual_time
async def test_what_a_throttled_model_and_misfits_cost_leaves_the_other_attempts_as_they_are() -> None:
    throttling = [throttled() for _ in range(20)]
    model = Scripted([unreachable(), misfit(), *throttling, *(unreachable() for _ in range(3)), misfit()])
    assert await count(model) == 7
    assert model.times_s[-1] - model.times_s[0] >= 20 * 5.0


@virtual_time
async def test_a_death_forgets_neither_the_attempts_nor_the_wait() -> None:
    bus, model = MemoryBus(APP), Scripted([unreachable(), unreachable(), ModelThrottled("slower", 300.0)])
    async with hosted(model, bus) as node:
        await node.ref(Counter, "a").tell(Count())
        await asyncio.sleep(100.0)
        assert node.host.statistics["suspensions"] == 1
    assert len(model.asked) == 3
    later = Scripted([unreachable() for _ in range(3)])
    async with hosted(later, bus):
        while not any(isinstance(each, Turn) for each in await entries(bus)):  # noqa: ASYNC110
            await asyncio.sleep(1.0)
        assert later.times_s[0] - model.times_s[-1] >= 300.0
    assert [(each.attempt, each.apart) for each in await entries(bus) if isinstance(each, Started)] == [
        (2, {}),
        (3, {}),
        (4, {"throttled": 1}),
        (5, {"throttled": 1}),
        (6, {"throttled": 1}),
    ]
    assert len(later.asked) == 3, "five that found it unreachable, in two lives, are all"


@virtual_time
async def test_a_model_that_asks_for_more_time_than_there_is_is_not_waited_for() -> None:
    model = Scripted([ModelThrottled("tomorrow", retry_after_s=86_400.0)])
    with pytest.raises(Refused, match="throttled") as caught:
        await count(model)
    assert caught.value.data == {"error": "ModelThrottled", "after_s": 86_400.0}
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelRefused("no key"), "rejected"),
        (QuotaUsedUp("pay"), "quota"),
        (ContextUnusable("long"), "corrupt_context"),
        (UnknownTask("x"), "defect"),
    ],
)
def test_a_refusal_is_final(error: ModelError, kind: str) -> None:
    @virtual_time
    async def play() -> None:
        model = Scripted([error])
        with pytest.raises(Refused, match=kind):
            await count(model)
        assert len(model.asked) == 1

    play()


@virtual_time
async def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_reason() -> None:
    model = Scripted([misfit(), unreachable()])
    await count(model)
    assert "Your last answer did not fit: expected int" in model.asked[1].instructions
    assert model.asked[1] == model.asked[2] == repaired(PROMPT, SemanticError("scripted", "x", "expected int"))
    assert model.asked[1].inputs == PROMPT.inputs


@virtual_time
async def test_a_deterministic_model_is_not_asked_to_think_again() -> None:
    model = Scripted([misfit()], deterministic=True)
    with pytest.raises(Refused, match="semantic"):
        await count(model)
    assert len(model.asked) == 1


def test_a_port_tells_the_name_of_its_model() -> None:
    assert ModelPort(Scripted()).name == "scripted"
