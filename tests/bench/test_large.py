"""The measurement of a long log, at a tiny size."""

import pytest

from regrow.bench.large import grow, settle


@pytest.mark.asyncio
async def test_a_long_log_is_recovered_whole_and_then_rolled_up() -> None:
    found = await grow(events=2_500, repeat=1, activations=1)
    assert found.events == 2_500
    assert found.recovered_per_s.ratio > 0
    assert found.activation_ms.count == found.activation_floor_ms.count == 1
    assert found.stream_bytes_after < found.stream_bytes_before


@pytest.mark.asyncio
async def test_what_actors_take_on_disk_is_measured_for_each_number_of_turns() -> None:
    found = await settle(actors=2, turns=(1, 3), wait_s=0.0)
    assert [each.turns for each in found] == [1, 3]
    assert all(each.disk_bytes > 0 and each.live_bytes > 0 for each in found)
