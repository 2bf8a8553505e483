"""The measurement of a parked actor's neighbours, at a tiny size."""

import pytest

from regrow.bench.parked import neighbours, park
from regrow.bus import Address
from regrow.bus.subjects import shard_of


@pytest.mark.asyncio
async def test_neighbours_of_a_parked_actor_answer_while_its_mailbox_is_full() -> None:
    found = await park(asks=20, relays=130, repeat=1)
    assert found.messages == 1_000
    assert "maximum messages per subject" in found.refused
    assert [each.count for each in (*found.with_parked_ms, *found.without_ms)] == [20, 20]
    assert found.p99_ms.ratio > 0


def test_neighbours_share_the_shard() -> None:
    address = Address("bench_parked", "p")
    assert {shard_of(each) for each in neighbours(address, 3)} == {shard_of(address)}
