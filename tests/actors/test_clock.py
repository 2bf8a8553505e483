"""Clock, chance, sleep and deadlines as a handler sees them: the same on every replay, also after deaths and suspensions."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from regrow.actors import (
    Actor,
    ActorError,
    Event,
    Kind,
    LocalActor,
    LocalSystem,
    Message,
    Node,
    Policy,
    System,
    command,
    event,
    query,
    timeout,
    tool,
)
from regrow.actors.clock import seconds_of
from regrow.actors.records import Record
from regrow.bus import Address, MemoryBus, decode
from regrow.supervisor import Backoff
from regrow.testing import in_memory, virtual_time

HOUR_S = 3600.0
APP = "clock"


class Draw(Message[list[str]]):
    fail: int = 0


class Sleep(Message[float]):
    seconds: float


class Race(Message[str]):
    limit_s: float
    work_s: float
    after: str = ""


class Kept(Event):
    said: str


class Outside(Message[str]):
    pass


class Log(Message[list[str]]):
    pass


@tool
async def work(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "worked"


@tool
async def once(what: str) -> str:
    _ran.append(what)
    return what


@tool
async def break_down(times: int) -> None:
    _ran.append("broke")
    if _ran.count("broke") <= times:
        raise RuntimeError("broke down")


_ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    _ran.clear()


class Dreamer(Actor):
    log: list[str] = []

    @command
    async def draw(self, msg: Draw) -> list[str]:
        moment, chance, name = await self.now(), await self.random(), await self.uuid()
        both = await asyncio.gather(self.random(), self.random())
        _ran.append(f"{moment} {chance} {name} {both}")
        if msg.fail:
            await break_down(msg.fail)
        assert moment.tzinfo is UTC and isinstance(name, UUID) and 0 <= chance < 1 and both[0] != both[1]
        return [moment.isoformat(), str(chance), str(name)]

    @command
    async def sleep_on(self, msg: Sleep) -> float:
        begun = await self.now()
        await self.sleep(timedelta(seconds=msg.seconds))
        return (await self.now() - begun).total_seconds()

    @command
    async def race(self, msg: Race) -> str:
        try:
            async with timeout(msg.limit_s) as limit:
                said = await work(msg.work_s)
            assert not limit.expired()
        except TimeoutError:
            said = "too late"
        await once(said)
        self.emit(Kept(said=said))
        if msg.after:
            await self.sleep(HOUR_S)
            await once(msg.after)
        return said

    @query
    async def outside(self, msg: Outside) -> str:
        said: list[str] = []
        for each in (self.now, self.random, self.uuid, lambda: self.sleep(1)):
            with pytest.raises(ActorError, match="works only inside a @command of a running actor") as no:
                await each()
            said.append(str(no.value).split()[0])
        return " ".join(said)

    @query
    async def read(self, msg: Log) -> list[str]:
        return self.log

    @event
    def kept(self, fact: Kept) -> None:
        self.log.append(fact.said)


def system(suspend_after_s: float = 30.0) -> System:
    policy = Policy(backoff=Backoff(first_s=0.0), suspend_after_s=suspend_after_s)
    return System(APP, [Kind(actor=Dreamer, policy=policy)]).checked()


@asynccontextmanager
async def hosted(bus: MemoryBus, suspend_after_s: float = 30.0) -> AsyncGenerator[Node]:
    async with in_memory(system(suspend_after_s), bus=bus) as node:
        yield node


async def names(bus: MemoryBus) -> list[str]:
    stored = await bus.log.read(Address("dreamer", "a"))
    return [type(entry).__name__ for each in stored for entry in decode(each.data, Record, "record").entries]


@virtual_time
async def test_clock_chance_and_names_are_drawn_once_and_stay_the_same_in_the_next_attempt() -> None:
    async with hosted(MemoryBus(APP)) as node:
        drawn = await node.ref(Dreamer, "a").ask(Draw(fail=1))
    attempts = [each for each in _ran if each != "broke"]
    assert len(attempts) == 2 and attempts[0] == attempts[1]
    assert abs(datetime.fromisoformat(drawn[0]).timestamp() - time.time()) < HOUR_S


@virtual_time
async def test_outside_of_a_command_they_are_refused_in_one_sentence() -> None:
    async with hosted(MemoryBus(APP)) as node:
        assert await node.ref(Dreamer, "a").ask(Outside()) == "Dreamer.now Dreamer.random Dreamer.uuid Dreamer.sleep"


@virtual_time
async def test_a_long_sleep_costs_no_memory_and_ends_at_its_time() -> None:
    bus = MemoryBus(APP)
    async with hosted(bus) as node:
        asking = asyncio.create_task(node.ref(Dreamer, "a").ask(Sleep(seconds=8 * HOUR_S), timeout_s=1e8))
        await asyncio.sleep(HOUR_S)
        assert node.host.statistics["suspensions"] == 1
        slept = await asking
    assert 0 <= slept - 8 * HOUR_S < 0.1
    assert await names(bus) == ["Begun", "Steps", "Slept", "Suspended", "Steps", "Steps", "Turn"]


@virtual_time
async def test_of_a_sleep_only_the_rest_is_slept_after_a_death() -> None:
    bus = MemoryBus(APP)
    async with hosted(bus) as node:
        await node.ref(Dreamer, "a").tell(Sleep(seconds=20.0))
        await asyncio.sleep(15.0)
    began_s = asyncio.get_running_loop().time()
    async with hosted(bus):
        while (await names(bus))[-1] != "Turn":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert asyncio.get_running_loop().time() - began_s < 6.0


@virtual_time
async def test_a_short_sleep_is_one_record_and_keeps_the_turn_here() -> None:
    bus = MemoryBus(APP)
    async with hosted(bus, 0.0) as node:
        assert 0.5 <= await node.ref(Dreamer, "a").ask(Sleep(seconds=0.5)) < 0.6
        assert 3.0 <= await node.ref(Dreamer, "a").ask(Sleep(seconds=3.0)) < 3.1
        assert node.host.statistics["suspensions"] == 0
    assert (await names(bus)).count("Slept") == 1


@pytest.mark.parametrize(
    ("limit_s", "work_s", "said"), [(2.0, 9.0, "too late"), (9.0, 2.0, "worked"), (0.5, 0.7, "too late")]
)
def test_a_deadline_ends_the_same_way_in_every_life(limit_s: float, work_s: float, said: str) -> None:
    @virtual_time
    async def play() -> None:
        bus = MemoryBus(APP)
        async with hosted(bus, 0.0) as node:
            await node.ref(Dreamer, "a").tell(Race(limit_s=limit_s, work_s=work_s, after="after"))
            await asyncio.sleep(HOUR_S / 2)
            assert node.host.statistics["suspensions"] == 1
            assert _ran == [said]
        await asyncio.sleep(HOUR_S)
        began_s = asyncio.get_running_loop().time()
        async with hosted(bus) as node:
            while await node.ref(Dreamer, "a").ask(Log()) != [said]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began_s < 0.5, "a deadline that has ended waits no more"
        assert _ran == [said, "after"]

    play()


@virtual_time
async def test_outside_of_a_handler_a_deadline_is_that_of_asyncio() -> None:
    limit = timeout(1.0)
    with pytest.raises(TimeoutError):
        async with limit:
            await asyncio.sleep(2.0)
    assert limit.expired()
    with pytest.raises(RuntimeError, match="make another one"):
        await limit.__aenter__()


def test_a_length_of_time_is_a_number() -> None:
    assert seconds_of(timedelta(minutes=1)) == 60.0
    assert seconds_of(-1) == 0.0
    with pytest.raises(ValueError, match="nan is no time to sleep"):
        seconds_of(float("nan"))


class Local(LocalActor):
    @command
    async def draw(self, msg: Draw) -> list[str]:
        await self.sleep(0.0)
        return [(await self.now()).isoformat(), str(await self.random()), str(await self.uuid())]


@virtual_time
async def test_a_local_actor_has_them_too() -> None:
    async with LocalSystem("local") as local:
        drawn: Any = await local.spawn(Local, "a").ask(Draw())
    assert datetime.fromisoformat(drawn[0]).tzinfo is not None
    assert 0 <= float(drawn[1]) < 1 and UUID(drawn[2])
