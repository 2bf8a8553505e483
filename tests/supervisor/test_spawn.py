"""Lone processes: OTP's `spawn` with an owner."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from regrow.supervisor import Crashed, Exit, Hung, InvalidOption, Killed, Normal, Shutdown
from regrow.supervisor.errors import Died
from regrow.supervisor.exits import TimedOut
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.process import SpaceClosed, processes

pytestmark = pytest.mark.asyncio


async def wait(me: Mortal) -> None:
    await asyncio.Event().wait()


async def finish(me: Mortal) -> None:
    pass


async def test_a_process_that_returns_ends_normally() -> None:
    async with processes() as space:
        assert await space.spawn(finish).wait_gone() == Normal()


async def test_what_a_process_raises_is_its_exit_and_reaches_nobody_else() -> None:
    error = ValueError("no")

    async def fail(me: Mortal) -> None:
        raise error

    async with processes() as space:
        bystander = space.spawn(wait)
        assert await space.spawn(fail).wait_gone() == Crashed(error)
        assert bystander.exit is None


async def test_a_crash_is_reported_once_and_without_the_text_of_its_error() -> None:
    async def fail(me: Mortal) -> None:
        raise ValueError("secret")

    with capture_logs() as logs:
        async with processes() as space:
            await space.spawn(fail, name="worker").wait_gone()
    assert logs == [
        {
            "event": "process_died",
            "log_level": "warning",
            "process": "worker",
            "cause": "Crashed",
            "error": "ValueError",
        }
    ]


async def test_a_process_may_say_how_it_really_ended() -> None:
    async def stand_for_another(me: Mortal) -> None:
        raise Died(Killed(9))

    async with processes() as space:
        assert await space.spawn(stand_for_another).wait_gone() == Killed(9)


async def test_a_cancellation_that_nobody_asked_for_is_a_crash() -> None:
    async def awaits_the_dead(me: Mortal) -> None:
        raise asyncio.CancelledError

    async with processes() as space:
        ended = await space.spawn(awaits_the_dead).wait_gone()
    assert isinstance(ended, Crashed)
    assert isinstance(ended.error, asyncio.CancelledError)


async def test_a_body_that_is_no_coroutine_function_is_a_crash() -> None:
    def no_coroutine(me: Mortal) -> None: ...

    async with processes() as space:
        ended = await space.spawn(no_coroutine).wait_gone()  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert isinstance(ended, Crashed)
    assert isinstance(ended.error, TypeError)


async def test_leaving_the_block_ends_all_in_reverse_each_before_the_next() -> None:
    ended: list[str] = []

    async def slow_to_go(me: Mortal) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.0)
            ended.append(me.name)

    async with processes() as space:
        spawned = [space.spawn(slow_to_go, name=name) for name in "abc"]
        await asyncio.sleep(0)
    assert ended == ["c", "b", "a"]
    assert [each.exit for each in spawned] == [Shutdown()] * 3


async def test_a_process_that_never_began_ends_as_it_was_asked() -> None:
    async with processes() as space:
        process = space.spawn(wait)
    assert process.exit == Shutdown()


async def test_a_process_ends_of_the_first_cause_it_is_given() -> None:
    async with processes() as space:
        process = space.spawn(wait)
        process.end(TimedOut(1.0))
        process.end(Shutdown())
        assert await process.wait_gone() == TimedOut(1.0)
        process.end(Shutdown())
    assert process.exit == TimedOut(1.0)


async def test_an_error_on_the_way_out_is_the_exit() -> None:
    error = OSError("disk")

    async def fails_at_the_end(me: Mortal) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    async with processes() as space:
        process = space.spawn(fails_at_the_end)
        await asyncio.sleep(0)
    assert process.exit == Crashed(error)


async def test_a_process_may_end_itself() -> None:
    async def ends_itself(me: Mortal) -> None:
        me.end(Killed(9))
        await asyncio.Event().wait()

    async with processes() as space:
        assert await space.spawn(ends_itself).wait_gone() == Killed(9)


async def test_a_process_that_does_not_go_is_abandoned_and_named() -> None:
    released = asyncio.Event()

    async def refuse(me: Mortal) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    with capture_logs() as logs:
        async with processes(grace_s=2.0) as space:
            process = space.spawn(refuse, name="stubborn")
            await asyncio.sleep(0)
        assert process.exit == Hung(2.0)
        released.set()
        await asyncio.sleep(1.0)
    assert [(log["event"], log["process"]) for log in logs] == [
        ("process_abandoned", "stubborn"),
        ("process_died", "stubborn"),
        ("abandoned_process_ended", "stubborn"),
    ]


async def test_the_owner_waits_for_its_processes_also_when_it_is_cancelled_meanwhile() -> None:
    ended: list[str] = []

    async def slow_to_go(me: Mortal) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.0)
            ended.append(me.name)

    async def own() -> None:
        async with processes() as space:
            space.spawn(slow_to_go, name="a")
            space.spawn(slow_to_go, name="b")
            await asyncio.sleep(0)

    owner = asyncio.create_task(own())
    await asyncio.sleep(0.5)
    owner.cancel()
    await asyncio.wait([owner])
    assert owner.cancelled()
    assert ended == ["b", "a"]


async def test_nothing_is_spawned_while_the_block_is_being_left() -> None:
    async with processes() as space:
        pass
    with pytest.raises(SpaceClosed, match="late"):
        space.spawn(finish, name="late")


async def test_a_dead_process_is_not_kept() -> None:
    async with processes() as space:
        await space.spawn(finish).wait_gone()
        living = space.spawn(wait)
        assert space.living() == (living,)


async def test_a_process_without_a_name_is_called_after_its_function() -> None:
    async with processes() as space:
        assert (space.spawn(finish).name, space.spawn(finish).name) == ("finish-1", "finish-2")


async def test_who_watches_is_told_once_in_order_and_at_once_of_the_dead() -> None:
    told: list[str] = []

    def teller(name: str) -> Callable[[Exit], None]:
        return lambda cause: told.append(name)

    async with processes() as space:
        process = space.spawn(finish)
        first, second = teller("first"), teller("second")
        for callback in (first, second, first):
            process.watch(callback)
        await process.wait_gone()
        assert told == ["first", "second"]
        process.watch(first)
        assert told == ["first", "second", "first"]


async def test_who_is_unwatched_by_a_callback_before_it_is_not_told() -> None:
    told: list[Exit] = []
    async with processes() as space:
        process = space.spawn(finish)
        process.watch(lambda cause: process.unwatch(told.append))
        process.watch(told.append)
        await process.wait_gone()
    assert told == []


async def test_the_time_to_go_is_checked() -> None:
    with pytest.raises(InvalidOption, match="grace_s"):
        async with processes(grace_s=-1.0):
            pass
