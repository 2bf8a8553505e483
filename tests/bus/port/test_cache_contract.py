"""The promises of ``Cache``, in memory and on the real server: compare-and-set, a time to live, groups."""

import asyncio

import pytest

from regrow.bus import Bus, PayloadTooLarge
from regrow.bus.cache import TTL_MIN_S

pytestmark = pytest.mark.asyncio

Nodes = tuple[Bus, Bus]


async def test_what_one_node_puts_another_gets_with_its_tags(nodes: Nodes) -> None:
    here, there = nodes
    assert await there.cache.get("milk.a") is None
    revision = await here.cache.put("milk.a", b"80", after=0, ttl_s=60, tags=("food", "usda"))
    held = await there.cache.get("milk.a")
    assert held is not None
    assert (held.name, held.revision, held.data, held.tags) == ("milk.a", revision, b"80", ("food", "usda"))
    assert held.time_ns > 0


async def test_only_who_knows_the_revision_replaces_it(nodes: Nodes) -> None:
    here, there = nodes
    first = await here.cache.put("milk.a", b"1", after=0, ttl_s=60)
    assert first is not None
    assert await there.cache.put("milk.a", b"2", after=0, ttl_s=60) is None
    second = await there.cache.put("milk.a", b"2", after=first, ttl_s=60)
    assert second is not None
    assert second != first
    assert await here.cache.put("milk.a", b"3", after=first, ttl_s=60) is None
    held = await here.cache.get("milk.a")
    assert held is not None
    assert held.data == b"2"


async def test_of_many_who_put_at_once_one_is_first(nodes: Nodes) -> None:
    here, there = nodes
    puts = [node.cache.put("milk.a", b"x", after=0, ttl_s=60) for node in (here, there) for _ in range(10)]
    assert len([each for each in await asyncio.gather(*puts) if each is not None]) == 1


async def test_after_its_time_nothing_is_held_and_the_name_is_free(nodes: Nodes) -> None:
    here, there = nodes
    assert await here.cache.put("milk.a", b"1", after=0, ttl_s=TTL_MIN_S) is not None
    async with asyncio.timeout(20):
        while await there.cache.get("milk.a") is not None:  # noqa: ASYNC110 # the server's clock says when
            await asyncio.sleep(0.1)
    assert await there.cache.put("milk.a", b"2", after=0, ttl_s=60) is not None


async def test_a_revision_that_is_dropped_is_gone_and_a_later_one_stays(nodes: Nodes) -> None:
    here, there = nodes
    first = await here.cache.put("milk.a", b"1", after=0, ttl_s=60)
    assert first is not None
    second = await here.cache.put("milk.a", b"2", after=first, ttl_s=60)
    assert second is not None
    await there.cache.drop("milk.a", first)
    assert await here.cache.get("milk.a") is not None
    await there.cache.drop("milk.a", second)
    assert await here.cache.get("milk.a") is None
    assert await here.cache.put("milk.a", b"3", after=0, ttl_s=60) is not None


async def test_all_that_is_held_is_listed_or_one_group_of_it(nodes: Nodes) -> None:
    here, there = nodes
    assert await there.cache.entries() == []
    await there.cache.drop("milk.a", 1)
    for name in ("milk.a", "milk.b", "salt.a"):
        await here.cache.put(name, name.encode(), after=0, ttl_s=60)
    assert sorted(each.name for each in await there.cache.entries()) == ["milk.a", "milk.b", "salt.a"]
    assert sorted(each.name for each in await there.cache.entries("milk")) == ["milk.a", "milk.b"]


async def test_what_fits_no_message_is_refused(nats_bus: Bus) -> None:
    with pytest.raises(PayloadTooLarge):
        await nats_bus.cache.put("milk.a", b"x" * (9 * 1024 * 1024), after=0, ttl_s=60)
