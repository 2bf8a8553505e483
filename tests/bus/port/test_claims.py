"""What is put aside: the same on both buses, and readable by any client of a NATS object store."""

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from regrow.bus import (
    Address,
    EmbeddedServer,
    MemoryBus,
    NatsBus,
    PayloadTooLarge,
    ReadBroken,
    object_claims,
    open_bus,
)
from regrow.bus.api import JetStreamApi
from regrow.bus.object_claims import CHUNK_BYTES, CHUNKS_AT_ONCE
from regrow.bus.port import CLAIM_BYTES_MAX
from regrow.bus.replies import ReplyInbox

pytestmark = pytest.mark.asyncio

Nodes = tuple[MemoryBus, MemoryBus] | tuple[NatsBus, NatsBus]

ALICE = Address("counter", "a.b/é")
BOB = Address("counter", "bob")
WAIT_S = 10.0
LARGE = bytes(range(256)) * (3 * 1024 * 4) + b"rest"


async def stored(client: Client, bus: NatsBus, pattern: str) -> list[str]:
    """The subjects of the bucket that hold something."""
    async with ReplyInbox(client) as replies:
        bucket = bus.subjects.claim_bucket
        return await JetStreamApi(replies).subjects(f"OBJ_{bucket}", f"$O.{bucket}.{pattern}")


async def test_bytes_are_got_as_they_were_put_under_their_hash(nodes: Nodes) -> None:
    here, there = nodes
    for data in (LARGE, b"small", b""):
        digest = await here.claims.put("log", ALICE, data, "salt")
        assert digest == sha256(b"salt" + data).hexdigest()
        assert await there.claims.get("log", ALICE, digest) == data
        assert await there.claims.get("snap", ALICE, digest) is None
        assert await there.claims.get("log", BOB, digest) is None
    assert await here.claims.put("log", ALICE, b"small") == sha256(b"small").hexdigest()


async def test_putting_the_same_again_changes_nothing(nodes: Nodes) -> None:
    here, there = nodes
    digests = {await bus.claims.put("mail", ALICE, LARGE) for bus in (here, there, here)}
    assert set(await there.claims.held("mail", ALICE)) == digests
    assert len(digests) == 1


async def test_one_is_removed_and_the_others_stay(nodes: Nodes) -> None:
    here, there = nodes
    first, second = await here.claims.put("log", ALICE, b"1"), await here.claims.put("log", ALICE, b"2")
    await there.claims.remove("log", ALICE, first)
    await there.claims.remove("log", ALICE, first)
    await there.claims.remove("log", BOB, second)
    assert await here.claims.get("log", ALICE, first) is None
    assert await here.claims.get("log", ALICE, second) == b"2"
    assert await here.claims.put("log", ALICE, b"1") == first
    assert await there.claims.get("log", ALICE, first) == b"1"


async def test_all_of_an_actor_in_a_box_are_dropped_but_those_to_keep(nodes: Nodes) -> None:
    here, there = nodes
    digests = [await here.claims.put("log", ALICE, b"%d" % number) for number in range(5)]
    await here.claims.put("snap", ALICE, b"0")
    await here.claims.put("log", BOB, b"0")
    await there.claims.drop("log", ALICE, digests[:1])
    assert list(await there.claims.held("log", ALICE)) == digests[:1]
    assert len(await there.claims.held("snap", ALICE)) == len(await there.claims.held("log", BOB)) == 1
    await there.claims.drop("log", ALICE)
    await there.claims.drop("log", ALICE)
    assert not await there.claims.held("log", ALICE)
    assert await here.claims.get("log", ALICE, digests[0]) is None


async def test_what_was_put_since_a_time_is_not_dropped(nodes: Nodes) -> None:
    here, there = nodes
    await here.claims.put("log", ALICE, b"1")
    await here.log.append(BOB, b'{"rid":"1"}', rid="1", after=0)
    (record,) = await here.log.read(BOB)
    later = await here.claims.put("log", ALICE, b"2")
    await there.claims.drop("log", ALICE, before_ns=record.time_ns)
    assert list(await there.claims.held("log", ALICE)) == [later]


async def test_what_is_too_large_is_not_put(nodes: Nodes) -> None:
    here, _ = nodes
    with pytest.raises(PayloadTooLarge):
        await here.claims.put("mail", ALICE, bytes(CLAIM_BYTES_MAX + 1))
    with pytest.raises(ValueError):
        await here.claims.put("mail", Address("k", ""), b"")


async def test_the_largest_claim_is_got_back(nodes: Nodes) -> None:
    here, there = nodes
    data = bytes(CLAIM_BYTES_MAX)
    assert await there.claims.get("mail", ALICE, await here.claims.put("mail", ALICE, data)) == data


# On the server


async def test_any_client_of_an_object_store_reads_a_claim(nats_bus: NatsBus, client: Client) -> None:
    digest = await nats_bus.claims.put("log", ALICE, LARGE)
    bucket = await client.jetstream().object_store(nats_bus.subjects.claim_bucket)
    name = f"log/counter.a=2Eb=2F=C3=A9/{digest}"
    found = await bucket.get(name)
    assert found.data == LARGE
    assert (found.info.name, found.info.size, found.info.chunks) == (name, len(LARGE), -(-len(LARGE) // CHUNK_BYTES))
    assert [each.name for each in await bucket.list()] == [name]


async def test_nothing_of_what_was_removed_is_left(nats_bus: NatsBus, client: Client) -> None:
    digest = await nats_bus.claims.put("log", ALICE, LARGE)
    assert len(await stored(client, nats_bus, ">")) == 2
    await nats_bus.claims.remove("log", ALICE, digest)
    assert await stored(client, nats_bus, ">") == []


async def test_those_who_put_the_same_at_once_leave_one(nats_bus: NatsBus, client: Client) -> None:
    await asyncio.gather(*(nats_bus.claims.put("log", ALICE, LARGE) for _ in range(5)))
    assert len(await stored(client, nats_bus, "C.>")) == 1
    assert len(await stored(client, nats_bus, "M.>")) == 1


async def test_a_removal_that_died_halfway_is_finished_by_the_next(nats_bus: NatsBus, client: Client) -> None:
    digest = await nats_bus.claims.put("log", ALICE, LARGE)
    (meta,) = await stored(client, nats_bus, "M.>")
    jetstream = client.jetstream()
    found = await jetstream.get_last_msg(f"OBJ_{nats_bus.subjects.claim_bucket}", meta)
    described = json.loads(found.data or b"")
    await client.request(meta, json.dumps({**described, "deleted": True}).encode(), headers={"Nats-Rollup": "sub"})
    assert await nats_bus.claims.get("log", ALICE, digest) is None
    assert len(await stored(client, nats_bus, "C.>")) == 1
    async with open_bus(client, nats_bus.subjects.app) as another:
        await another.claims.drop("log", ALICE)
    assert await stored(client, nats_bus, ">") == []


async def test_an_object_that_lost_a_chunk_is_never_taken_for_whole(
    nats_bus: NatsBus, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_claims, "CLAIM_PAUSE_S", 0.0)
    digest = await nats_bus.claims.put("log", ALICE, LARGE)
    await client.request(f"$JS.API.STREAM.MSG.DELETE.OBJ_{nats_bus.subjects.claim_bucket}", b'{"seq":2}')
    with pytest.raises(ReadBroken):
        await nats_bus.claims.get("log", ALICE, digest)


async def test_a_process_hears_of_what_others_put_and_remove(nodes: Nodes) -> None:
    here, there = nodes
    assert not await there.claims.held("log", ALICE)
    digest = await here.claims.put("log", ALICE, b"1")
    async with asyncio.timeout(WAIT_S):
        while digest not in await there.claims.held("log", ALICE):
            await there.log.read(BOB)  # a round trip
        await here.claims.remove("log", ALICE, digest)
        while await there.claims.held("log", ALICE):
            await there.log.read(BOB)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of a handshake that failed: nats-py forgets its stream
async def test_a_claim_is_put_through_a_kill_of_the_server(store_dir: Path, app: str) -> None:
    data = LARGE * (1 + CHUNKS_AT_ONCE)
    async with AsyncExitStack() as stack:
        lives = await stack.enter_async_context(AsyncExitStack())
        server = await lives.enter_async_context(EmbeddedServer(store_dir, durability="process"))
        client = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
        stack.push_async_callback(client.close)
        bus = await stack.enter_async_context(open_bus(client, app, create=True))
        small = await bus.claims.put("log", BOB, b"1")
        putting = asyncio.ensure_future(bus.claims.put("log", ALICE, data))
        while len(await stored(client, bus, "C.*")) < 2:
            pass
        server.settle()
        os.kill(server.pid, signal.SIGKILL)
        await server.wait_exited()
        await lives.aclose()
        await lives.enter_async_context(EmbeddedServer(store_dir, durability="process", port=server.port))
        assert await bus.claims.get("log", ALICE, await putting) == data
        assert await bus.claims.get("log", BOB, small) == b"1"
