"""A backup, and what is restored from it on another server: everything is as it was, and goes on from there."""

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client as NatsClient

from regrow.actors import Actor, Client, Event, Kind, Message, Policy, System, command, event, query
from regrow.actors.administration import Administration
from regrow.actors.wire import relay_headers, relay_id
from regrow.bus import Address, EmbeddedServer, NatsBus, backup, encode, open_bus
from regrow.bus.backup import BackupUnusable, StillServed, back_up, restore
from regrow.bus.connection import ServerAddress, close, connect
from regrow.bus.replies import ReplyInbox
from regrow.bus.subjects import log_number

pytestmark = pytest.mark.asyncio

PAD = "x" * (9 << 20)


class Add(Message[int]):
    amount: int
    pad: str = ""


class Pass(Message[int]):
    amount: int


class Remind(Message[int]):
    amount: int
    after_s: float


class Total(Message[int]):
    pass


class Added(Event):
    amount: int


class Counter(Actor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        if msg.amount < 0:
            raise ValueError("less than nothing")
        self.emit(Added(amount=msg.amount))
        return self.total

    @command
    async def pass_on(self, msg: Pass) -> int:
        self.send(self.ref(Counter, "receiver"), Add(amount=msg.amount))
        return 0

    @command
    async def remind(self, msg: Remind) -> int:
        self.set_timer("soon", Add(amount=msg.amount), after_s=msg.after_s)
        return 0

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


def system(app: str) -> System:
    return System(app, [Kind(actor=Counter, policy=Policy(attempts_max=1))]).checked()


@asynccontextmanager
async def connected(server: EmbeddedServer, app: str, *, create: bool = False) -> AsyncGenerator[NatsBus]:
    client = await connect(ServerAddress(url=server.url), name="test")
    try:
        async with open_bus(client, app, create=create) as bus:
            yield bus
    finally:
        await close(client)


async def backed_up(server: EmbeddedServer, app: str, folder: Path, *, force: bool = False) -> None:
    client = await connect(ServerAddress(url=server.url), name="test")
    try:
        await back_up(client, app, folder, force=force)
    finally:
        await close(client)


async def restored(server: EmbeddedServer, app: str, folder: Path) -> None:
    client = await connect(ServerAddress(url=server.url), name="test")
    try:
        await restore(client, app, folder)
    finally:
        await close(client)


async def reaches(client: Client, key: str, total: int) -> None:
    while await client.ref(Counter, key).ask(Total()) < total:
        pass
    assert await client.ref(Counter, key).ask(Total()) == total


async def test_a_restored_application_is_as_it_was(nats_server: EmbeddedServer, app_name: str, tmp_path: Path) -> None:
    folder, due_s = tmp_path / "backup", 2.0
    async with connected(nats_server, app_name, create=True) as bus:
        async with system(app_name).host(bus) as node:
            assert await node.ref(Counter, "state").ask(Add(amount=3)) == 3
            await node.ref(Counter, "timer").ask(Remind(amount=5, after_s=due_s))
            await node.ref(Counter, "sender").ask(Pass(amount=7))
            await reaches(node.client, "receiver", 7)
            await node.ref(Counter, "dead").tell(Add(amount=-1, pad=PAD))
            letters = Administration(bus).dead_letters
            while not await letters.list():
                pass
        for amount in (10, 20):
            await Client(bus).ref(Counter, "mail").tell(Add(amount=amount, pad=PAD))
        sent = (await bus.log.read(Address("counter", "sender")))[0].sequence
        epoch, dead = bus.epoch, await letters.list()
        logs = {address: await bus.log.read(address) for address in await bus.log.addresses()}
    await backed_up(nats_server, app_name, folder)

    server = EmbeddedServer(tmp_path / "fresh", durability="process")
    async with server:
        await restored(server, app_name, folder)
        async with connected(server, app_name) as bus:
            assert bus.epoch == epoch
            assert {address: await bus.log.read(address) for address in await bus.log.addresses()} == logs
            letters = Administration(bus).dead_letters
            assert await letters.list() == dead
            assert len((await letters.show(dead[0].sequence)).payload()) > len(PAD)
            async with system(app_name).host(bus) as node:
                assert await node.ref(Counter, "state").ask(Add(amount=1)) == 4
                await reaches(node.client, "mail", 30)
                await reaches(node.client, "timer", 5)
                sender = Address("counter", "sender")
                known = relay_id(epoch, log_number(sender), sent, 0)
                given = relay_headers(sender, 1, known)
                await bus.mail.post("act", Address("counter", "receiver"), encode(Add(amount=7)), given)
                await node.ref(Counter, "sender").ask(Pass(amount=100))
                await reaches(node.client, "receiver", 107)
        os.kill(server.pid, signal.SIGKILL)


async def test_while_a_node_serves_there_is_no_copy(nats_server: EmbeddedServer, app_name: str, tmp_path: Path) -> None:
    async with connected(nats_server, app_name, create=True) as bus:
        async with system(app_name).host(bus):
            with pytest.raises(StillServed, match=r"32 of its 32 shards are held .*--force"):
                await backed_up(nats_server, app_name, tmp_path / "a")
        await backed_up(nats_server, app_name, tmp_path / "a")
        await bus.request(f"$KV.{bus.subjects.lease_bucket}.3", b'{"owner":"died"}', timeout_s=10)
        with pytest.raises(StillServed, match="1 of its 32 shards"):
            await backed_up(nats_server, app_name, tmp_path / "b")
        await backed_up(nats_server, app_name, tmp_path / "b", force=True)


async def test_what_a_node_writes_during_the_copy_is_found_out(
    nats_server: EmbeddedServer, app_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(nats_server, app_name, create=True) as bus:
        folder = tmp_path / "a"
        real = backup._snapshot  # pyright: ignore[reportPrivateUsage]

        async def snapshot(client: NatsClient, replies: ReplyInbox, name: str, into: Path) -> backup.Settings:
            taken = await real(client, replies, name, into)
            if name == bus.subjects.mail_stream("in"):
                await bus.log.append(Address("counter", "a"), encode({"rid": "1"}), rid="1", after=0)
            return taken

        monkeypatch.setattr(backup, "_snapshot", snapshot)
        with pytest.raises(StillServed, match=r"a node wrote to RG_.*_EVT_\d+ while it was made"):
            await backed_up(nats_server, app_name, folder, force=True)
        with pytest.raises(BackupUnusable, match=r"it has no manifest\.json, which is written when all is copied"):
            await restored(nats_server, app_name, folder)
        with pytest.raises(BackupUnusable, match="it is not empty"):
            await backed_up(nats_server, app_name, folder)


async def test_nothing_is_replaced_and_no_other_application_restored(
    nats_server: EmbeddedServer, app_name: str, tmp_path: Path
) -> None:
    async with connected(nats_server, app_name, create=True):
        pass
    folder = tmp_path / "a"
    await backed_up(nats_server, app_name, folder)
    with pytest.raises(BackupUnusable, match=f"RG_{app_name}_EVT_0 is on this server already"):
        await restored(nats_server, app_name, folder)
    with pytest.raises(BackupUnusable, match=f"it is one of '{app_name}', not of 'other'"):
        await restored(nats_server, "other", folder)
    (folder / "manifest.json").write_bytes(msgspec.json.encode({"v": 1}))
    with pytest.raises(BackupUnusable, match=r"is none of this version of regrow"):
        await restored(nats_server, app_name, folder)
