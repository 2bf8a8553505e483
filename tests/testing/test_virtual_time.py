"""Virtual time: nobody waits, and everybody agrees on what time it is."""

import asyncio
import threading
import time

import pytest

from regrow.actors import Actor, Event, Message, System, command, event, tool
from regrow.testing import EndlessLoop, Outside, Stalled, VirtualLoop, in_memory, run_virtual, virtual_time

HOUR_S = 3600.0
REAL_MONOTONIC = time.monotonic


@virtual_time
async def test_a_sleep_of_an_hour_is_over_at_once_and_all_clocks_agree() -> None:
    loop, wall_ns, wall_s, monotonic_s = asyncio.get_running_loop(), time.time_ns(), time.time(), time.monotonic()
    began_s = REAL_MONOTONIC()
    await asyncio.sleep(HOUR_S)
    assert REAL_MONOTONIC() - began_s < HOUR_S / 60
    assert loop.time() == HOUR_S
    assert time.time_ns() - wall_ns == HOUR_S * 1e9
    assert round(time.time() - wall_s, 3) == HOUR_S
    assert time.monotonic() - monotonic_s == HOUR_S


@virtual_time
async def test_timers_go_off_in_their_order() -> None:
    order: list[float] = []

    async def late(after_s: float) -> None:
        await asyncio.sleep(after_s)
        order.append(after_s)

    await asyncio.gather(*(late(after_s) for after_s in (86_400 * 400, 0.001, HOUR_S, 1.0)))
    assert order == [0.001, 1.0, HOUR_S, 86_400 * 400]


@virtual_time
async def test_time_stands_still_while_a_thread_works() -> None:
    loop, go_on = asyncio.get_running_loop(), threading.Event()
    loop.call_later(HOUR_S, lambda: pytest.fail("the clock went on"))
    working = asyncio.create_task(asyncio.to_thread(go_on.wait))
    await asyncio.sleep(0)
    go_on.set()
    assert await working
    assert loop.time() == 0.0


@virtual_time
async def test_a_thread_has_the_real_clock() -> None:
    await asyncio.sleep(HOUR_S)
    assert abs(await asyncio.to_thread(time.monotonic) - REAL_MONOTONIC()) < HOUR_S / 2


def test_a_thread_that_waits_for_the_clock_gets_it_where_patience_has_an_end() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()

        async def an_hour() -> float:
            await asyncio.sleep(HOUR_S)
            return loop.time()

        def wait_for_it() -> float:
            return asyncio.run_coroutine_threadsafe(an_hour(), loop).result()

        return await asyncio.to_thread(wait_for_it)

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(thread_patience_s=0.01)) as runner:
        assert runner.run(main()) == HOUR_S


def test_what_would_hang_for_ever_is_said_at_once() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stalled, match="in real time this would hang"):
        run_virtual(hang())


def test_what_goes_round_in_circles_is_stopped() -> None:
    async def circle() -> None:
        for _ in range(10**9):
            await asyncio.sleep(0)

    with pytest.raises(EndlessLoop, match="no time has passed"):
        run_virtual(circle())


def test_the_real_clock_is_back_when_the_loop_has_ended() -> None:
    run_virtual(asyncio.sleep(HOUR_S))
    assert time.monotonic is REAL_MONOTONIC


class Wait(Message[str]):
    pass


class Wake(Message[None]):
    pass


class Woken(Event):
    at: float


@tool
async def long_work() -> str:
    await asyncio.sleep(HOUR_S)
    return "done"


class Sleeper(Actor):
    woken: float = 0.0

    @command
    async def wait(self, msg: Wait) -> str:
        self.set_timer("wake", Wake(), after_s=2 * HOUR_S)
        return await long_work()

    @command
    async def wake(self, msg: Wake) -> None:
        self.emit(Woken(at=time.time()))
        self.port("woken").set()

    @event
    def on_woken(self, fact: Woken) -> None:
        self.woken = fact.at


@virtual_time
async def test_an_actor_that_works_for_an_hour_and_wakes_two_hours_later_takes_no_time() -> None:
    woken = asyncio.Event()
    began_s = time.time()
    async with in_memory(System("sleepers", actors=[Sleeper]), ports={"woken": woken}) as node:
        assert await Outside(node.bus).ref(Sleeper, "a").ask(Wait()) == "done"
        assert time.time() - began_s >= HOUR_S
        await woken.wait()
        assert 2 * HOUR_S - 0.001 <= time.time() - began_s <= 2 * HOUR_S + 10
