"""The measurements of runs that wait, at a tiny size."""

from pathlib import Path

import pytest

from regrow.bench.waiting import remember, replay


@pytest.mark.asyncio
async def test_a_waiting_run_is_timed_on_its_way_back_to_where_it_waited(tmp_path: Path) -> None:
    found = await replay(tmp_path, steps=20, repeat=2)
    assert (found.steps, found.read_ms.count, found.replay_ms.count) == (20, 2, 2)
    assert found.records > 0
    assert found.bytes > 0


@pytest.mark.asyncio
async def test_the_memory_of_runs_is_measured_for_each_thing_that_they_wait_for() -> None:
    found = await remember(runs=20, traced_runs=20)
    assert [each.mode for each in found.memory] == ["tool", "ask", "suspended", "unloaded"]
    loaded, asking, suspended, unloaded = found.memory
    assert asking.traced_bytes > loaded.traced_bytes > max(suspended.traced_bytes, unloaded.traced_bytes)
    assert loaded.by_file
