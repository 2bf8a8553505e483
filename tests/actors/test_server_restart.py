"""A server that is killed under load and started again on the same port and store: nothing is lost, nothing happens twice."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from regrow.actors import Actor, Event, Kind, Message, Policy, System, asking, command, event, query, tool
from regrow.actors.records import Record, Steps
from regrow.bus import Address, EmbeddedServer, decode, open_bus
from regrow.bus.connection import ServerAddress, close, connect

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(90)]

RAN: Counter[int] = Counter()
ACTORS = 10
EACH = 20
KILLS = 3


class Put(Message[int]):
    number: int


class Kept(Event):
    number: int


class Count(Message[int]):
    pass


class Counted(Event):
    pass


class Numbers(Message[list[int]]):
    pass


class Total(Message[int]):
    pass


@tool
async def note(number: int) -> int:
    RAN[number] += 1
    return number


class Keeper(Actor):
    numbers: list[int] = []

    @command
    async def put(self, msg: Put) -> int:
        self.emit(Kept(number=await note(msg.number)))
        self.send(self.ref(Tally, "all"), Count())
        return len(self.numbers)

    @query
    async def say(self, msg: Numbers) -> list[int]:
        return self.numbers

    @event
    def kept(self, fact: Kept) -> None:
        self.numbers.append(fact.number)


class Tally(Actor):
    total: int = 0

    @command
    async def count(self, msg: Count) -> int:
        self.emit(Counted())
        return self.total

    @query
    async def say(self, msg: Total) -> int:
        return self.total

    @event
    def counted(self, fact: Counted) -> None:
        self.total += 1


async def test_a_server_killed_under_load_loses_nothing_and_doubles_nothing(
    tmp_path: Path, app_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "RESEND_FIRST_S", 1.0)
    RAN.clear()
    server = EmbeddedServer(tmp_path / "store", durability="process")
    system = System(app_name, actors=[Keeper, Kind(actor=Tally, policy=Policy(snapshot_every=5))]).checked()
    await server.__aenter__()
    try:
        client = await connect(ServerAddress(url=server.url), name="test")
        async with open_bus(client, app_name, create=True) as bus, system.host(bus) as node:
            server.settle()
            done = asyncio.Semaphore(0)

            async def put(key: int, number: int) -> None:
                await node.ref(Keeper, str(key)).ask(Put(number=number), timeout_s=60.0)
                done.release()

            async with asyncio.TaskGroup() as load:
                for number in range(ACTORS * EACH):
                    load.create_task(put(number % ACTORS, number))
                for _ in range(KILLS):
                    for _ in range(ACTORS * EACH // (KILLS + 1)):
                        await done.acquire()
                    os.kill(server.pid, signal.SIGKILL)
                    await server.wait_exited()
                    await server.__aexit__(None, None, None)
                    await server.__aenter__()
            for key in range(ACTORS):
                numbers = await node.ref(Keeper, str(key)).ask(Numbers())
                assert sorted(numbers) == list(range(key, ACTORS * EACH, ACTORS))
            while await node.ref(Tally, "all").ask(Total()) < ACTORS * EACH:
                pass
            assert await node.ref(Tally, "all").ask(Total()) == ACTORS * EACH
            steps: Counter[int] = Counter()
            for key in range(ACTORS):
                for stored in await bus.log.read(Address("keeper", str(key))):
                    for entry in decode(stored.data, Record, "record").entries:
                        if isinstance(entry, Steps):
                            steps.update(decode(step.outcome.value or b"", int) for step in entry.steps)
            assert steps == Counter(range(ACTORS * EACH))
            assert steps == RAN, "no step ran twice, for its process was never killed"
        await close(client)
    finally:
        await server.__aexit__(None, None, None)
