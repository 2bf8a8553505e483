import os
from pathlib import Path

import pytest

from regrow.actors import StepContext, tool
from regrow.actors.step import in_step
from regrow.actors.witness import WITNESS, sightings, witness
from regrow.agents.witness import Witnessed
from regrow.models import Model, Prompt, RulesModel


@tool
async def looked_at() -> int:
    witness()
    return 1


def count(words: list[str]) -> int:
    return len(words)


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "witness.jsonl"
    monkeypatch.setenv(WITNESS, str(path))
    return path


@pytest.mark.asyncio
async def test_every_execution_for_a_step_is_a_line(seen: Path) -> None:
    for actor, key in (("researcher/1", "a"), ("researcher/2", "b"), ("researcher/1", "a")):
        await looked_at.execute(b"{}", StepContext(actor, key))
    lines = list(sightings(seen))
    assert [(each.actor, each.step, each.pid) for each in lines] == [
        ("researcher/1", "a", os.getpid()),
        ("researcher/2", "b", os.getpid()),
        ("researcher/1", "a", os.getpid()),
    ]
    assert [each.time_ns for each in lines] == sorted(each.time_ns for each in lines)


@pytest.mark.asyncio
async def test_a_plain_call_is_no_step_and_leaves_no_line(seen: Path) -> None:
    assert await looked_at() == 1
    assert list(sightings(seen)) == []


@pytest.mark.asyncio
async def test_nothing_is_written_unless_it_is_switched_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(WITNESS, raising=False)
    monkeypatch.chdir(tmp_path)
    await looked_at.execute(b"{}", StepContext("researcher/1", "a"))
    assert os.listdir(tmp_path) == []  # noqa: PTH208 # nothing waits for a directory of one


@pytest.mark.asyncio
async def test_a_witnessed_model_is_the_same_model_and_its_calls_are_seen(seen: Path) -> None:
    model = Witnessed(RulesModel({"count": count}))
    assert isinstance(model, Model)
    assert (model.name, model.deterministic) == ("rules", True)
    prompt = Prompt("count", "", {"words": ["a", "b"]})
    answer = await in_step(StepContext("researcher/1", "m"), lambda _: model.complete(prompt, int))
    assert answer.value == 2
    assert [each.step for each in sightings(seen)] == ["m"]


def test_sightings_of_a_run_without_a_witness_are_none(tmp_path: Path) -> None:
    assert list(sightings(tmp_path / "none")) == []
