"""The measurement of timers that are due at once, at a tiny size."""

from pathlib import Path

import pytest

from regrow.bench.due import be_due


@pytest.mark.asyncio
async def test_no_timer_is_lost_or_fires_twice_when_the_server_is_killed_at_the_due_time(tmp_path: Path) -> None:
    found = await be_due(tmp_path, owners=10, names=5, lead_s=0.5, repeat=1)
    assert (found.timers, found.twice, found.lost) == (50, 0, 0)
    assert found.last_late_ms.count == found.killed_late_ms.count == 50
