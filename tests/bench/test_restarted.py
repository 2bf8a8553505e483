"""What is counted of a worker that is killed and started again: the counting, and one small run of each measurement."""

from pathlib import Path

import msgspec
import pytest

from regrow.actors.records import Outcome, Record, Steps
from regrow.actors.records import Step as Recorded
from regrow.bench.in_flight import fly
from regrow.bench.restarted import APP, Noted, again, medians, noted, recorded, runner
from regrow.bench.resume import resume
from regrow.bus import MemoryBus, encode

FIRST, SECOND = 1, 2


def step(pid: int, run: str, number: int) -> Noted:
    return Noted(pid, 0, "step", (run, number))


def test_a_recorded_step_and_an_open_one_that_run_again_are_counted_apart() -> None:
    lines = [step(FIRST, "a", 1), step(FIRST, "a", 2), step(SECOND, "a", 1), step(SECOND, "a", 2), step(SECOND, "a", 3)]
    found = again(lines, frozenset({("a", 1)}), SECOND)
    assert (found.recorded, found.recorded_again, found.open_again) == (1, 1, 1)


def test_a_run_that_went_on_from_a_step_that_is_in_no_log_is_an_error() -> None:
    with pytest.raises(AssertionError, match="in no log"):
        again([step(FIRST, "a", 1), step(FIRST, "a", 2)], frozenset(), SECOND)


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    assert noted(witness) == []
    witness.write_text("7 100 began\n7 200 step a 1\n7 30")
    assert noted(witness) == [Noted(7, 100, "began", None), Noted(7, 200, "step", ("a", 1))]


def test_parts_are_medians_over_the_repeats() -> None:
    assert medians([{"a": 1.0}, {"a": 5.0}, {"a": 2.0}]) == {"a": 2.0}


@pytest.mark.asyncio
async def test_recorded_steps_are_found_in_the_log_except_for_cancelled_ones() -> None:
    bus = MemoryBus(APP)
    done = Recorded("k", "act", msgspec.Raw(b"{}"), Outcome(msgspec.Raw(b"4")))
    cancelled = Recorded("l", "act", msgspec.Raw(b"{}"), Outcome(msgspec.Raw(b"5")), cancelled=True)
    data = encode(Record(1, "r-1", (Steps((done, cancelled)),)))
    await bus.log.append(runner("a"), data, rid="r-1", after=0)
    assert await recorded(bus, ["a", "b"]) == {("a", 4)}


@pytest.mark.asyncio
async def test_a_run_that_dies_near_its_end_is_resumed_without_a_recorded_step_run_again(tmp_path: Path) -> None:
    found = await resume(tmp_path, steps=20, die_at=15, repeat=1, durability="process")
    assert [(each.recorded, each.recorded_again, each.open_again) for each in found.again] == [(14, 0, 1)]
    assert list(found.parts_ms) == ["began", "imported", "connected", "opened", "served", "handler", "step", "done"]
    assert found.done_s.floor > 0


@pytest.mark.asyncio
@pytest.mark.parametrize("by_cli", [False, True])
async def test_runs_in_flight_go_on_without_a_recorded_step_run_again(tmp_path: Path, by_cli: bool) -> None:
    found = await fly(
        tmp_path, runs=3, steps=12, finished=10, pause_ms=10, repeat=1, durability="process", by_cli=by_cli
    )
    assert found.recorded_again == 0
    assert found.recorded_min >= 10
    assert bool(found.parts_ms) is not by_cli
    assert found.first_step_s.ours <= found.all_runs_s
