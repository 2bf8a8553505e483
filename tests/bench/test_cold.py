"""The measurement of recoveries beside appends, at a tiny size."""

import pytest

from regrow.bench.cold import cool


@pytest.mark.asyncio
async def test_cold_actors_recover_beside_appends_before_and_after_a_roll_up() -> None:
    found = await cool(actors=40, rounds=3, per_s=50.0, seconds=0.2, repeat=2)
    assert found.records == 120
    assert (found.recovery_ms.count, found.raw_read_ms.count) == (20, 20)
    assert (found.rolled_up_recovery_ms.count, found.rolled_up_raw_read_ms.count) == (20, 20)
    assert found.before.times > 0
    assert found.rolled_up.floor_times > 0


@pytest.mark.asyncio
async def test_more_recoveries_than_actors_are_refused() -> None:
    with pytest.raises(ValueError, match="10 actors are too few to recover 20 that are cold"):
        await cool(actors=10, rounds=1, per_s=10.0, seconds=1.0, repeat=1)
