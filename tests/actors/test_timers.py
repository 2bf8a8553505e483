"""Durable timers, on a bus in memory and on a real server: each fires once, whatever is restarted, repeated, late or in its way."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from regrow.actors import (
    Actor,
    ActorError,
    AskFailed,
    Event,
    Kind,
    Message,
    Node,
    Policy,
    Refused,
    System,
    command,
    event,
    host,
    query,
)
from regrow.actors.cell import Cell
from regrow.actors.dead_letter import DeadLetter
from regrow.actors.fold import fold
from regrow.actors.wire import DELETE, TIMER, timer_headers
from regrow.bus import Address, Bus, Delivery, EmbeddedServer, MemoryBus, encode, headers, open_bus
from regrow.bus.connection import ServerAddress, close, connect
from regrow.supervisor import Backoff

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]
DeadLetters = Callable[[], Awaitable[list[DeadLetter]]]

PAST_MS = 1
FAR_MS = 4_000_000_000_000
"""In the year 2096."""
BOB = Address("alarm", "bob")


class Timer(msgspec.Struct, frozen=True):
    name: str
    says: str = ""
    at_ms: int = FAR_MS
    over: bool = False


class Ring(Message[None]):
    says: str
    again: int = 0


class Do(Message[int]):
    """All of it in one turn, in this order."""

    says: str = ""
    waits: bool = False
    timers: tuple[Timer, ...] = ()
    sends: tuple[str, ...] = ()
    refuses: bool = False
    fails: bool = False


class Said(Event):
    says: str


class Heard(Message[list[str]]):
    pass


class Naive(Message[None]):
    pass


class Bell:
    """How the test hears what happens in handlers, and lets those go that wait."""

    def __init__(self) -> None:
        self.rung: asyncio.Queue[str] = asyncio.Queue()
        self.waiting: asyncio.Queue[None] = asyncio.Queue()
        self.go_on = asyncio.Semaphore(0)
        self.broken = False


class Alarm(Actor):
    heard: list[str] = []

    @command
    async def do(self, msg: Do) -> int:
        if msg.says:
            self.emit(Said(says=msg.says))
        if msg.waits:
            await self._wait()
        for timer in msg.timers:
            if timer.over:
                self.cancel_timer(timer.name)
            else:
                at = datetime.fromtimestamp(timer.at_ms / 1000, UTC)
                self.set_timer(timer.name, Ring(says=timer.says or timer.name), at=at)
        for says in msg.sends:
            self.send(self.ref(Alarm, self.key), Ring(says=says))
        if msg.refuses:
            raise Refused("not now")
        if msg.fails:
            raise ValueError("failed")
        return len(self.heard)

    @command
    async def ring(self, msg: Ring) -> None:
        bell: Bell = self.port("bell")
        if bell.broken:
            raise ValueError("the bell is broken")
        self.emit(Said(says=msg.says))
        if msg.says == "wait":
            await self._wait()
        if msg.again:
            self.set_timer("again", Ring(says=msg.says, again=msg.again - 1), after_s=0.0)
        bell.rung.put_nowait(msg.says)

    @command
    async def naive(self, msg: Naive) -> None:
        for wrong in ({}, {"after_s": 1.0, "at": datetime.now(UTC)}, {"at": datetime(2026, 1, 1)}):
            options: dict[str, Any] = wrong
            with pytest.raises(ValueError, match=r"one of the two|no time zone"):
                self.set_timer("t", Ring(says=""), **options)
        with pytest.raises(ActorError, match="Alarm has no @command for Heard: its timer could do nothing"):
            self.set_timer("t", Heard(), after_s=0.0)

    @query
    async def hear(self, msg: Heard) -> list[str]:
        return self.heard

    @event
    def said(self, fact: Said) -> None:
        self.heard.append(fact.says)

    async def _wait(self) -> None:
        bell: Bell = self.port("bell")
        bell.waiting.put_nowait(None)
        await bell.go_on.acquire()


@pytest_asyncio.fixture
async def bell() -> Bell:
    return Bell()


@asynccontextmanager
async def serving(bus: Bus, bell: Bell, **options: Any) -> AsyncGenerator[Node]:
    policy = Policy(attempts_max=2, backoff=Backoff(first_s=0.0))
    kind = Kind(actor=Alarm, policy=policy, **options)
    async with System(bus.subjects.app, actors=[kind], ports={"bell": bell}).checked().host(bus) as node:
        yield node


async def do(node: Node, *timers: Timer, **options: Any) -> None:
    await node.ref(Alarm, "bob").ask(Do(timers=timers, **options))


async def heard(node: Node) -> list[str]:
    return await node.ref(Alarm, "bob").ask(Heard())


async def pending(bus: Bus) -> dict[str, tuple[str, int]]:
    """The timers that the log says are pending: ids and due times by name."""
    return fold(Alarm, "bob", await bus.log.read(BOB), None).image.timers


class _State(msgspec.Struct):
    messages: int


class _Info(msgspec.Struct):
    state: _State


async def act_messages(bus: Bus) -> int:
    """What the runtime's own mailboxes hold: timers that are not due, and mail that is not acknowledged."""
    if isinstance(bus, MemoryBus):
        timers = bus.mail._timers  # pyright: ignore[reportPrivateUsage]  # nobody else has to see them
        return len(timers) + len(bus.mail.waiting("act"))
    info = await bus.request(f"$JS.API.STREAM.INFO.{bus.subjects.mail_stream('act')}", b"", timeout_s=5.0)
    return msgspec.json.decode(info.body, type=_Info).state.messages


async def others_run() -> None:
    """Gives the loop to everybody else once; nobody tells when a mailbox on a server is empty, so it is looked at again."""
    await asyncio.sleep(0)


async def act_holds(bus: Bus, count: int) -> None:
    while await act_messages(bus) != count:
        await others_run()


async def fire(bus: Bus, name: str, timer: str, says: str) -> None:
    """Makes a timer due now that its actor has set for later, or that has fired before."""
    await bus.mail.schedule(BOB, timer, encode(Ring(says=says)), timer_headers(name, timer), at_ns=0)


@pytest.fixture
def timers_delivered(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[str]:
    """The names of timers as they reach their actor's mailbox in this process."""
    names: asyncio.Queue[str] = asyncio.Queue()
    put = Cell.put

    def noticed(cell: Cell, delivery: Delivery) -> None:
        put(cell, delivery)
        if delivery.headers.get(headers.TYPE) == TIMER:
            names.put_nowait(delivery.headers[headers.TIMER])

    monkeypatch.setattr(Cell, "put", noticed)
    return names


async def test_a_timer_fires_once_and_is_pending_no_more(bus: Bus, bell: Bell) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("t", at_ms=int(time.time() * 1000) + 300))
        assert await bell.rung.get() == "t"
        await act_holds(bus, 0)
        assert await heard(node) == ["t"]
        assert await pending(bus) == {}


async def test_a_timer_that_is_past_when_it_is_set_fires_at_once(bus: Bus, bell: Bell) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("t", at_ms=PAST_MS))
        assert await bell.rung.get() == "t"


async def test_a_timer_of_the_same_name_replaces_the_first(bus: Bus, bell: Bell) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("t", "first"))
        await do(node, Timer("t", "second"))
        assert len(await pending(bus)) == 1
        await act_holds(bus, 1)
        await do(node, Timer("t", "third", at_ms=PAST_MS))
        assert await bell.rung.get() == "third"
        await act_holds(bus, 0)
        assert await heard(node) == ["third"]


async def test_a_name_has_one_timer_also_when_one_turn_sets_it_twice(bus: Bus, bell: Bell) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("t", "first", at_ms=PAST_MS), Timer("t", "second"), Timer("u", over=True), Timer("u"))
        await act_holds(bus, 2)
        assert set(await pending(bus)) == {"t", "u"}
        await do(node, Timer("t", over=True), Timer("u"), Timer("u", over=True))
        await act_holds(bus, 0)
        assert await pending(bus) == {}
        assert await heard(node) == []


async def test_a_cancelled_timer_never_fires_and_cancelling_none_does_nothing(bus: Bus, bell: Bell) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("t"), Timer("u"))
        await do(node, Timer("t", over=True), Timer("never", over=True))
        await act_holds(bus, 1)
        assert set(await pending(bus)) == {"u"}


async def test_any_name_will_do(bus: Bus, bell: Bell) -> None:
    names = ["a.b", "*", ">", "a b", "é\n", "x" * 300]
    async with serving(bus, bell) as node:
        await do(node, *(Timer(name, at_ms=PAST_MS) for name in names))
        assert {await bell.rung.get() for _ in names} == set(names)
        await act_holds(bus, 0)
        assert await pending(bus) == {}


async def test_a_timer_whose_name_is_empty_is_a_timer(bus: Bus, bell: Bell) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("", "t", at_ms=PAST_MS))
        assert await bell.rung.get() == "t"
        await act_holds(bus, 0)
        assert await pending(bus) == {}


async def test_a_message_too_large_for_the_bus_comes_by_timer_too(bus: Bus, bell: Bell) -> None:
    says = "x" * 2_000_000
    async with serving(bus, bell) as node:
        await do(node, Timer("t", says, at_ms=PAST_MS))
        assert await bell.rung.get() == says


@pytest.mark.parametrize("kind", ["refuses", "fails"])
async def test_a_turn_that_fails_or_refuses_sets_and_cancels_no_timers(bus: Bus, bell: Bell, kind: str) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("kept"))
        before = await pending(bus)
        with pytest.raises((Refused, AskFailed)):
            await do(node, Timer("t", at_ms=PAST_MS), Timer("kept", over=True), **{kind: True})
        await do(node, says="end")
        await act_holds(bus, 1)
        assert await pending(bus) == before
        assert await heard(node) == ["end"]


async def test_a_timer_that_sets_itself_again_fires_each_time_once(bus: Bus, bell: Bell) -> None:
    async with serving(bus, bell) as node:
        await node.ref(Alarm, "bob").ask(Ring(says="tick", again=6))
        for _ in range(7):
            assert await bell.rung.get() == "tick"
        await act_holds(bus, 0)
        assert await heard(node) == ["tick"] * 7


async def test_what_is_no_time_or_no_message_of_the_actor_is_refused_in_the_handler(bus: Bus, bell: Bell) -> None:
    async with serving(bus, bell) as node:
        await node.ref(Alarm, "bob").ask(Naive())
        assert await pending(bus) == {}


async def test_a_timer_survives_its_host(open_another: OpenBus, bell: Bell) -> None:
    async with serving(await open_another(), bell) as node:
        await do(node, Timer("t", at_ms=int(time.time() * 1000) + 300))
    bus = await open_another()
    async with serving(bus, bell) as node:
        assert await bell.rung.get() == "t"
        await act_holds(bus, 0)
        assert await heard(node) == ["t"]


async def test_a_timer_that_fires_while_nobody_serves_waits_for_the_next_host(
    open_another: OpenBus, bell: Bell
) -> None:
    bus = await open_another()
    async with serving(bus, bell) as node:
        await do(node, Timer("t"))
        await do(node)  # its record says that the timer is with the server
        (timer, _) = (await pending(bus))["t"]
    await fire(bus, "t", timer, "t")
    bus = await open_another()
    async with serving(bus, bell) as node:
        assert await bell.rung.get() == "t"
        await act_holds(bus, 0)
        assert await heard(node) == ["t"]


async def test_timers_survive_a_server_that_is_killed(tmp_path: Path, app_name: str, bell: Bell) -> None:
    server = EmbeddedServer(tmp_path / "store", durability="process")
    await server.__aenter__()
    try:
        client = await connect(ServerAddress(url=server.url), name="test")
        async with open_bus(client, app_name, create=True) as bus, serving(bus, bell) as node:
            server.settle()
            soon_ms = int(time.time() * 1000) + 400
            await do(node, Timer("far"), *(Timer(f"t{n}", at_ms=soon_ms + n) for n in range(20)))
            os.kill(server.pid, signal.SIGKILL)
            await server.wait_exited()
            await server.__aexit__(None, None, None)
            await server.__aenter__()
            rung = [await bell.rung.get() for _ in range(20)]
            assert sorted(rung) == sorted(f"t{n}" for n in range(20))
            await do(node, says="end")
            assert sorted(await heard(node)) == sorted([*rung, "end"])
            assert set(await pending(bus)) == {"far"}
            await act_holds(bus, 1)
        await close(client)
    finally:
        await server.__aexit__(None, None, None)


async def test_a_timer_that_has_fired_does_nothing_when_it_is_relayed_again(bus: Bus, bell: Bell) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("t"))
        (timer, _) = (await pending(bus))["t"]
        for _ in range(3):
            await fire(bus, "t", timer, "t")
            await act_holds(bus, 0)
        assert await heard(node) == ["t"]
        await do(node, Timer("t", "next"))
        await fire(bus, "t", timer, "t")
        await act_holds(bus, 1)
        assert await heard(node) == ["t"], "nor when another one has its name by now"
        assert set(await pending(bus)) == {"t"}


async def test_a_host_that_dies_before_its_outbox_is_known_to_be_out_sets_the_timer_twice_and_it_fires_once(
    open_another: OpenBus, bell: Bell
) -> None:
    async with serving(await open_another(), bell) as node:
        await do(node, Timer("t", "wait", at_ms=PAST_MS))
        await bell.waiting.get()
    bus = await open_another()
    async with serving(bus, bell) as node:
        await bell.waiting.get()
        bell.go_on.release()
        assert await bell.rung.get() == "wait"
        await act_holds(bus, 0)
        assert await heard(node) == ["wait"]
        assert bell.waiting.empty()


async def test_timers_and_sends_to_oneself_never_swallow_each_other(bus: Bus, bell: Bell) -> None:
    async with serving(bus, bell) as node:
        for n in range(10):
            await do(node, Timer(f"early{n}", at_ms=PAST_MS), Timer(f"late{n}"), sends=(f"a{n}", f"b{n}"))
            await do(node, sends=(f"c{n}",))
        later = await pending(bus)
        for n in range(10):
            await fire(bus, f"late{n}", later[f"late{n}"][0], f"late{n}")
        expected = [f"{what}{n}" for n in range(10) for what in ("early", "late", "a", "b", "c")]
        assert sorted([await bell.rung.get() for _ in expected]) == sorted(expected)
        await act_holds(bus, 0)
        said = await heard(node)
        assert sorted(said) == sorted(expected)
        assert [each for each in said if each[0] in "abc"] == [f"{what}{n}" for n in range(10) for what in "abc"]


async def test_a_timer_overtakes_mail_that_waits_but_no_turn_that_runs(
    bus: Bus, bell: Bell, timers_delivered: asyncio.Queue[str]
) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("t"))
        (timer, _) = (await pending(bus))["t"]
        bob = node.ref(Alarm, "bob")
        await bob.tell(Do(says="runs", waits=True))
        await bell.waiting.get()
        await bob.tell(Ring(says="first"))
        await bob.tell(Ring(says="second"))
        await fire(bus, "t", timer, "t")
        assert await timers_delivered.get() == "t"
        assert await heard(node) == []
        bell.go_on.release()
        assert [await bell.rung.get() for _ in range(3)] == ["t", "first", "second"]
        await do(node, says="end")
        assert await heard(node) == ["runs", "t", "first", "second", "end"]


@pytest.mark.parametrize("change", [Timer("t", over=True), Timer("t", "instead")])
async def test_a_timer_that_fires_while_a_turn_cancels_or_replaces_it_is_over(
    bus: Bus, bell: Bell, timers_delivered: asyncio.Queue[str], change: Timer
) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("t"))
        (timer, _) = (await pending(bus))["t"]
        await node.ref(Alarm, "bob").tell(Do(waits=True, timers=(change,)))
        await bell.waiting.get()
        await fire(bus, "t", timer, "t")
        await timers_delivered.get()
        bell.go_on.release()
        await do(node, says="end")
        await act_holds(bus, 0 if change.over else 1)
        assert await heard(node) == ["end"]


async def test_a_timer_whose_handler_raises_becomes_a_dead_letter_and_is_pending_no_more(
    bus: Bus, bell: Bell, dead_letters: DeadLetters
) -> None:
    bell.broken = True
    async with serving(bus, bell) as node:
        await do(node, Timer("t", at_ms=PAST_MS), Timer("far"))
        while not (dead := await dead_letters()):
            await others_run()
        assert [each.message.timer for each in dead] == ["t"]
        assert "the bell is broken" in dead[0].cause.message
        await act_holds(bus, 1)
        assert set(await pending(bus)) == {"far"}
        bell.broken = False
        await do(node, Timer("t", at_ms=PAST_MS))
        assert await bell.rung.get() == "t"


async def test_a_timer_wakes_an_actor_that_has_left_the_memory(
    bus: Bus, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "TIDY_S", 0.01)
    async with serving(bus, bell, idle_after_s=0.0) as node:
        await do(node, Timer("t"), Timer("u"))
        await do(node)
        while not node.host.statistics["passivations"]:
            await others_run()
        (timer, _) = (await pending(bus))["t"]
        recoveries = node.host.statistics["recoveries"]
        await fire(bus, "t", timer, "t")
        assert await bell.rung.get() == "t"
        assert node.host.statistics["recoveries"] > recoveries
        await act_holds(bus, 1)
        assert set(await pending(bus)) == {"u"}


async def test_the_deletion_of_an_actor_takes_its_timers_along(
    bus: Bus, bell: Bell, timers_delivered: asyncio.Queue[str]
) -> None:
    async with serving(bus, bell) as node:
        await do(node, Timer("t"), Timer("u"), Timer("v"))
        (timer, _) = (await pending(bus))["t"]
        await node.ref(Alarm, "bob").tell(Do(waits=True, timers=(Timer("w", at_ms=PAST_MS),)))
        await bell.waiting.get()
        await bus.mail.post("act", BOB, b"", {headers.TYPE: DELETE})
        await fire(bus, "t", timer, "t")
        await timers_delivered.get()
        bell.go_on.release()
        await act_holds(bus, 0)
        assert await pending(bus) == {}
        await fire(bus, "u", timer, "u")
        await act_holds(bus, 0)
        assert "u" not in await heard(node)
        await do(node, Timer("u", at_ms=PAST_MS), says="anew")
        while await bell.rung.get() != "u":
            pass
        await act_holds(bus, 0)
        assert await heard(node) == ["anew", "u"]
