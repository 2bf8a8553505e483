"""A server that keeps or holds little: logs are read from it all the same, and what it has no room for is said in one sentence."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from regrow.bus import Address, EmbeddedServer, NatsBus, StoreFull, encode, make_store, open_bus, server
from regrow.bus.server import Durability

pytestmark = [
    pytest.mark.asyncio,
    # nats-py forgets the stream of a handshake that failed, and the collector finds it.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

RECORD_BYTES = 900_000
RECORDS = 24
WAIT_S = 50.0


@asynccontextmanager
async def connected(
    store: Path, monkeypatch: pytest.MonkeyPatch, settle: Callable[[str], str]
) -> AsyncGenerator[Client]:
    """A connection to a server whose configuration was changed."""
    configuration = server.configuration

    def changed(store: Path, durability: Durability, port: int, max_payload_bytes: int) -> str:
        return settle(configuration(store, durability, port, max_payload_bytes))

    monkeypatch.setattr(server, "configuration", changed)
    async with EmbeddedServer(store, durability="process", max_payload_bytes=1 << 20) as running:
        client = await nats.connect(running.url, max_reconnect_attempts=-1, reconnect_time_wait=0.02)
        try:
            yield client
        finally:
            await client.close()


async def write(bus: NatsBus, address: Address) -> None:
    after = 0
    for number in range(RECORDS):
        rid = f"{number}"
        data = encode({"rid": rid, "fill": "x" * RECORD_BYTES})
        after = await bus.log.append(address, data, rid=rid, after=after)


async def test_large_records_come_through_a_connection_for_which_the_server_keeps_little(
    store_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [Address("counter", f"{number}") for number in range(6)]
    async with (
        connected(store_dir, monkeypatch, lambda text: f"max_pending: 1MB\n{text}") as client,
        open_bus(client, "small", create=True) as bus,
        asyncio.timeout(WAIT_S),
    ):
        for address in addresses:
            await write(bus, address)
        for found in await asyncio.gather(*map(bus.log.read, addresses)):
            assert [len(each.data) > RECORD_BYTES for each in found] == [True] * RECORDS
        followed = 0
        async for _ in bus.log.follow("counter", {}):
            followed += 1
            if followed == RECORDS * len(addresses):
                break
        for number in range(RECORDS):
            await bus.dead.bury(addresses[0], bytes(RECORD_BYTES), message_id=f"{number}")
        assert len(await find_all(bus)) == RECORDS


async def find_all(bus: NatsBus) -> list[int]:
    return [each.stored.sequence for each in await bus.dead.find()]


async def test_a_server_with_less_storage_than_the_streams_reserve_is_named_in_one_sentence(
    store_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shrink(text: str) -> str:
        return text.replace(f"max_file_store: {server.MAX_FILE_STORE_BYTES}", "max_file_store: 1GB")

    async with connected(store_dir, monkeypatch, shrink) as client:
        for make in (make_store(client, "small"), open_bus(client, "small", create=True).__aenter__()):
            with pytest.raises(StoreFull, match=r"RG_small_IN, which reserves 4 GiB .* raise max_file_store"):
                await make
