"""More mail waits than the server keeps for one connection: all of it comes, and the connection stays."""

import asyncio
from itertools import count

import pytest
from nats.aio.client import Client

from regrow.bus import Address, Delivery, NatsBus
from regrow.bus.consumer import PULL_BYTES
from regrow.bus.subjects import BOXES, SHARDS, shard_of

pytestmark = pytest.mark.asyncio

ALICE = Address("counter", "alice")
WAIT_S = 45.0

Inbox = asyncio.Queue[Delivery]


def unexpected(shard: int) -> None:
    raise AssertionError(f"shard {shard} was lost")


def one_of_each_shard() -> list[Address]:
    found: dict[int, Address] = {}
    for number in count():
        address = Address("counter", f"{number}")
        found.setdefault(shard_of(address), address)
        if len(found) == SHARDS:
            return list(found.values())
    raise AssertionError


async def test_a_backlog_larger_than_the_server_keeps_for_one_connection_is_delivered(
    nats_bus: NatsBus, client: Client
) -> None:
    for _ in range(40):
        await nats_bus.mail.post("act", ALICE, bytes(7_000_000))
    inbox = Inbox()
    before = client.stats["reconnects"]
    async with asyncio.timeout(WAIT_S), nats_bus.mail.serve(inbox.put_nowait, unexpected):
        for _ in range(40):
            await (await inbox.get()).ack()
    assert client.stats["reconnects"] == before


async def test_all_consumers_have_megabytes_waiting_and_one_connection_carries_them(
    nats_bus: NatsBus, client: Client
) -> None:
    """Each has two messages that no pull request has room for, among many that fill several requests: 200 MB."""
    sizes = [100_000] * 6 + [1_000_000] + [100_000] * 6 + [PULL_BYTES, 600_000]
    addresses = one_of_each_shard()
    for box in BOXES:
        for address in addresses:
            await asyncio.gather(*(nats_bus.mail.post(box, address, bytes(size)) for size in sizes))
    waiting = len(BOXES) * len(addresses) * len(sizes)
    inbox = Inbox()
    before = client.stats["reconnects"]
    async with asyncio.timeout(WAIT_S), nats_bus.mail.serve(inbox.put_nowait, unexpected):
        for _ in range(waiting):
            await (await inbox.get()).ack()
    assert client.stats["reconnects"] == before


async def test_a_large_message_that_comes_alone_and_the_mail_behind_it_are_delivered(nats_bus: NatsBus) -> None:
    inbox = Inbox()
    async with asyncio.timeout(WAIT_S), nats_bus.mail.serve(inbox.put_nowait, unexpected):
        for size in (10, PULL_BYTES - 100, PULL_BYTES, 3_000_000, 10):
            await nats_bus.mail.post("in", ALICE, bytes(size))
            delivery = await inbox.get()
            assert len(delivery.body) == size
            await delivery.ack()
