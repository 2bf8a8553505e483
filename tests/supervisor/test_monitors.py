"""What OTP says about monitors: one-way, independent, immediate for the dead."""

import asyncio
import gc
from weakref import ref

import pytest

from regrow.supervisor import Crashed, Exit, Normal, Shutdown
from regrow.supervisor.exits import NoProcess
from regrow.supervisor.monitor import Demonitored, Monitor, demonitor, monitor
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.process import processes

pytestmark = pytest.mark.asyncio


async def wait(me: Mortal) -> None:
    await asyncio.Event().wait()


async def finish(me: Mortal) -> None:
    pass


async def test_a_monitor_is_told_how_its_target_ended() -> None:
    error = ValueError("no")

    async def fail(me: Mortal) -> None:
        raise error

    async with processes() as space:
        assert await monitor(space.spawn(fail)).wait_down() == Crashed(error)


async def test_a_normal_end_is_told_too() -> None:
    async with processes() as space:
        assert await monitor(space.spawn(finish)).wait_down() == Normal()


async def test_a_monitor_of_the_dead_is_down_at_once() -> None:
    told: list[Exit] = []
    async with processes() as space:
        process = space.spawn(finish)
        await process.wait_gone()
        assert monitor(process, told.append).down == Normal()
    assert told == [Normal()]


async def test_a_monitor_of_nobody_is_down_with_no_process() -> None:
    assert await monitor(None).wait_down() == NoProcess()


async def test_the_death_of_the_watcher_is_nothing_to_the_target() -> None:
    async with processes() as space:
        target = space.spawn(wait)

        async def watch_and_die(me: Mortal) -> None:
            monitor(target)

        await space.spawn(watch_and_die).wait_gone()
        await asyncio.sleep(1.0)
        assert target.exit is None


async def test_several_monitors_of_one_target_are_each_told_once() -> None:
    told: list[Exit] = []
    async with processes() as space:
        process = space.spawn(finish)
        watching = [monitor(process, told.append) for _ in range(3)]
        for each in watching:
            await each.wait_down()
    assert told == [Normal()] * 3


async def test_taking_one_monitor_back_leaves_the_others() -> None:
    told: list[str] = []
    async with processes() as space:
        process = space.spawn(finish)
        first = monitor(process, lambda _: told.append("first"))
        monitor(process, lambda _: told.append("second"))
        demonitor(first)
        await process.wait_gone()
    assert told == ["second"]
    assert first.down is None


async def test_taking_a_monitor_back_twice_or_after_the_death_does_nothing() -> None:
    async with processes() as space:
        process = space.spawn(finish)
        watching = monitor(process)
        assert await watching.wait_down() == Normal()
        demonitor(watching)
        demonitor(watching)
        assert await watching.wait_down() == Normal()


async def test_who_waits_on_a_monitor_that_is_taken_back_is_woken() -> None:
    async with processes() as space:
        watching = monitor(space.spawn(wait, name="target"))
        waiting = asyncio.create_task(watching.wait_down())
        await asyncio.sleep(0)
        demonitor(watching)
        with pytest.raises(Demonitored, match="target"):
            await waiting
        with pytest.raises(Demonitored):
            await watching.wait_down()


async def test_a_monitor_as_a_block_is_taken_back_at_its_end() -> None:
    async with processes() as space:
        process = space.spawn(wait)
        with monitor(process) as watching:
            pass
    assert process.exit == Shutdown()
    assert watching.down is None


async def test_a_cancelled_wait_leaves_the_monitor_in_place() -> None:
    async with processes() as space:
        process = space.spawn(wait)
        watching = monitor(process)
        waiting = asyncio.create_task(watching.wait_down())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        process.end(Shutdown())
        assert await watching.wait_down() == Shutdown()


async def test_a_hundred_thousand_monitors_taken_back_leave_nothing() -> None:
    gc.collect()
    gc.disable()  # what goes from now on goes without the collector: there is no cycle
    try:
        before = monitors_in_memory()
        async with processes() as space:
            process = space.spawn(wait)
            watching = [monitor(process) for _ in range(100_000)]
            assert monitors_in_memory() == before + 100_000
            while watching:
                watching.pop().demonitor()
            assert process.watchers == 1  # its space's
            assert monitors_in_memory() == before
    finally:
        gc.enable()


def monitors_in_memory() -> int:
    return sum(isinstance(each, Monitor) for each in gc.get_objects())


async def test_a_monitor_that_was_told_does_not_hold_the_dead() -> None:
    async with processes() as space:
        process = space.spawn(finish)
        watching = monitor(process)
        await watching.wait_down()
        dead = ref(process)
        del process
        await asyncio.sleep(0)
        gc.collect()
        assert dead() is None
