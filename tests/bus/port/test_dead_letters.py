"""Dead letters on both buses: stored once, found by actor, kept until somebody drops them."""

import pytest
from nats.aio.client import Client

from regrow.bus import Address, Buried, MemoryBus, NatsBus, PayloadTooLarge

pytestmark = pytest.mark.asyncio

Nodes = tuple[MemoryBus, MemoryBus] | tuple[NatsBus, NatsBus]

ALICE = Address("counter", "alice")
BOB = Address("counter", "b.o b")
SHOP = Address("shop", "alice")


async def fill(bus: MemoryBus | NatsBus) -> None:
    for number, address in enumerate((ALICE, BOB, SHOP, ALICE), 1):
        await bus.dead.bury(address, b"%d" % number, message_id=f"{number}")


def bodies(found: list[Buried]) -> list[bytes]:
    return [each.stored.data for each in found]


async def test_dead_letters_are_found_by_everybody_by_kind_and_by_actor(nodes: Nodes) -> None:
    here, there = nodes
    assert await there.dead.find() == []
    await fill(here)
    found = await there.dead.find()
    assert [each.address for each in found] == [ALICE, BOB, SHOP, ALICE]
    assert bodies(found) == [b"1", b"2", b"3", b"4"]
    assert [each.stored.sequence for each in found] == [1, 2, 3, 4]
    assert found[0].stored.time_ns > 1_700_000_000 * 10**9
    assert bodies(await there.dead.find("counter")) == [b"1", b"2", b"4"]
    assert bodies(await there.dead.find("counter", "alice")) == [b"1", b"4"]
    assert bodies(await there.dead.find("counter", "b.o b")) == [b"2"]
    assert await there.dead.find("none") == []


async def test_they_are_found_part_by_part(nodes: Nodes) -> None:
    here, there = nodes
    await fill(here)
    first = await there.dead.find("counter", limit=2)
    assert bodies(first) == [b"1", b"2"]
    assert bodies(await there.dead.find("counter", after=first[-1].stored.sequence)) == [b"4"]
    assert await there.dead.find(after=4) == []
    assert await there.dead.find(limit=0) == []


async def test_a_key_without_a_kind_names_nobody(nodes: Nodes) -> None:
    here, _ = nodes
    with pytest.raises(ValueError, match="give both"):
        await here.dead.find(key="alice")


async def test_one_is_got_and_dropped_by_its_sequence(nodes: Nodes) -> None:
    here, there = nodes
    await fill(here)
    found = await there.dead.get(2)
    assert found is not None
    assert (found.address, found.stored.data) == (BOB, b"2")
    assert await there.dead.drop(2)
    assert await here.dead.get(2) is None
    assert not await here.dead.drop(2)
    assert not await here.dead.drop(99)
    assert not await here.dead.drop(0)
    assert await here.dead.get(0) is None
    assert bodies(await here.dead.find()) == [b"1", b"3", b"4"]


async def test_the_same_id_is_stored_once(nodes: Nodes) -> None:
    here, there = nodes
    await here.dead.bury(ALICE, b"1", message_id="same")
    await there.dead.bury(ALICE, b"1", message_id="same")
    assert bodies(await here.dead.find()) == [b"1"]


async def test_what_cannot_be_buried_is_refused(nodes: Nodes) -> None:
    here, _ = nodes
    with pytest.raises(PayloadTooLarge):
        await here.dead.bury(ALICE, bytes(9 * 1024 * 1024), message_id="1")
    with pytest.raises(ValueError):
        await here.dead.bury(Address("k", ""), b"{}", message_id="2")
    assert await here.dead.find() == []


async def test_more_dead_letters_than_one_read_holds_are_found(nodes: Nodes) -> None:
    here, there = nodes
    for number in range(1_100):
        await here.dead.bury(ALICE, b"{}", message_id=f"{number}")
    assert len(await there.dead.find(limit=5_000)) == 1_100
    assert len(await there.dead.find()) == 1_000


async def test_one_that_names_no_actor_is_found_all_the_same(nats_bus: NatsBus, client: Client) -> None:
    await client.request(nats_bus.subjects.nobody("rg.a.q.1.counter.=zz"), b"?", timeout=10)
    (found,) = await nats_bus.dead.find()
    assert found.address == Address("counter", "=zz")
    assert await nats_bus.dead.drop(found.stored.sequence)


async def test_a_large_one_is_put_aside_and_found_by_its_brief(nodes: Nodes) -> None:
    here, there = nodes
    body = bytes(9 * 1024 * 1024)
    for _ in range(2):
        await here.dead.bury(ALICE, body, message_id="1", brief=b"large")
    await here.dead.bury(ALICE, b"small", message_id="2", brief=b"not used")
    first, second = await there.dead.find()
    assert (first.stored.data, first.aside) == (b"large", True)
    assert (second.stored.data, second.aside) == (b"small", False)
    whole = await there.dead.get(1)
    assert whole is not None
    assert (whole.stored.data == body, whole.aside) == (True, False)
    assert len(await here.claims.held("dead", ALICE)) == 1
    assert await there.dead.drop(1)
    await here.dead.bury(ALICE, body, message_id="1", brief=b"large")
    assert bodies(await here.dead.find()) == [b"small"], "its id is known"
    assert not await here.claims.held("dead", ALICE)


async def test_one_whose_body_is_lost_is_still_found(nodes: Nodes) -> None:
    here, _ = nodes
    await here.dead.bury(ALICE, bytes(9 * 1024 * 1024), message_id="1", brief=b"large")
    for digest in await here.claims.held("dead", ALICE):
        await here.claims.remove("dead", ALICE, digest)
    found = await here.dead.get(1)
    assert found is not None
    assert (found.stored.data, found.aside) == (b"large", True)
