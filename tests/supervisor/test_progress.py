"""Progress deadlines, in virtual time."""

import asyncio

import pytest
from structlog.testing import capture_logs

from regrow.supervisor import InvalidOption, Normal, Shutdown
from regrow.supervisor.exits import TimedOut
from regrow.supervisor.monitor import monitor
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.process import processes
from regrow.supervisor.progress import TRIM_AT, Lookout

pytestmark = pytest.mark.asyncio


async def wait(me: Mortal) -> None:
    await asyncio.Event().wait()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_child_that_makes_no_progress_is_ended_at_its_deadline_and_named() -> None:
    with capture_logs() as logs:
        async with processes() as space:
            with Lookout() as lookout:
                child = space.spawn(wait, name="worker")
                lookout.over(child, deadline_s=30.0)
                began = now()
                assert await child.wait_gone() == TimedOut(30.0)
                assert now() - began == 30.0
    assert logs[0] == {
        "event": "no_progress",
        "log_level": "error",
        "child": "worker",
        "deadline_s": 30.0,
        "quiet_s": 30.0,
    }


async def test_progress_puts_the_deadline_off() -> None:
    async with processes() as space:
        with Lookout() as lookout:
            child = space.spawn(wait)
            progress = lookout.over(child, deadline_s=10.0)
            for _ in range(5):
                await asyncio.sleep(9.0)
                progress.made()
            began = now()
            assert await child.wait_gone() == TimedOut(10.0)
            assert now() - began == 10.0


async def test_the_clock_stands_still_for_what_is_exempt() -> None:
    async with processes() as space:
        with Lookout() as lookout:
            child = space.spawn(wait)
            progress = lookout.over(child, deadline_s=10.0)
            await asyncio.sleep(4.0)
            with progress.exempt("model call"):
                assert progress.waits_for == ("model call",)
                assert progress.due_at is None
                await asyncio.sleep(1_000.0)
            began = now()
            assert await child.wait_gone() == TimedOut(10.0)
            assert now() - began == 6.0


async def test_exempt_waits_may_overlap_and_the_clock_goes_on_after_the_last() -> None:
    async with processes() as space:
        with Lookout() as lookout:
            progress = lookout.over(space.spawn(wait), deadline_s=10.0)

            async def wait_exempt(seconds: float) -> None:
                with progress.exempt("call"), progress.exempt("its inner part"):
                    await asyncio.sleep(seconds)

            await asyncio.gather(wait_exempt(50.0), wait_exempt(100.0))
            assert progress.due_at == now() + 10.0


async def test_progress_inside_an_exempt_wait_counts() -> None:
    async with processes() as space:
        with Lookout() as lookout:
            progress = lookout.over(space.spawn(wait), deadline_s=10.0)
            await asyncio.sleep(5.0)
            with progress.exempt("stream"):
                await asyncio.sleep(50.0)
                progress.made()
                await asyncio.sleep(50.0)
            assert progress.due_at == now() + 10.0


async def test_a_cancelled_exempt_wait_starts_the_clock_again() -> None:
    async with processes() as space:
        with Lookout() as lookout:
            child = space.spawn(wait)
            progress = lookout.over(child, deadline_s=10.0)

            async def wait_exempt() -> None:
                with progress.exempt("call"):
                    await asyncio.Event().wait()

            waiting = asyncio.create_task(wait_exempt())
            await asyncio.sleep(100.0)
            waiting.cancel()
            assert await child.wait_gone() == TimedOut(10.0)


async def test_many_children_share_one_timer_and_each_has_its_own_deadline() -> None:
    ended: list[tuple[str, float]] = []
    async with processes() as space:
        with Lookout() as lookout:
            children = [space.spawn(wait, name=str(seconds)) for seconds in (3, 1, 2)]
            for child in children:
                monitor(child, lambda _, name=child.name: ended.append((name, now())))  # type: ignore[misc]
                lookout.over(child, deadline_s=float(child.name))
            began = now()
            await asyncio.gather(*(child.wait_gone() for child in children))
    assert ended == [("1", began + 1), ("2", began + 2), ("3", began + 3)]


async def test_a_child_that_dies_is_no_longer_looked_after() -> None:
    async with processes() as space:
        with Lookout() as lookout:
            child = space.spawn(wait)
            progress = lookout.over(child, deadline_s=10.0)
            child.end(Shutdown())
            await child.wait_gone()
            assert progress.is_over
            assert lookout.over(child, deadline_s=10.0).is_over
            await asyncio.sleep(20.0)


async def test_the_dead_are_not_kept_until_their_deadline() -> None:
    async with processes() as space:
        with Lookout() as lookout:
            for _ in range(10 * TRIM_AT):
                child = space.spawn(wait)
                lookout.over(child, deadline_s=600.0)
                child.end(Shutdown())
                await child.wait_gone()
            assert len(lookout) <= TRIM_AT + 1


async def test_after_the_block_nobody_is_ended() -> None:
    async with processes() as space:
        child = space.spawn(wait)
        with Lookout() as lookout:
            progress = lookout.over(child, deadline_s=10.0)
            exempt = progress.exempt("call")
            exempt.__enter__()
        exempt.__exit__(None, None, None)
        await asyncio.sleep(100.0)
        assert child.exit is None
        assert child.watchers == 1  # its space's


async def test_the_time_in_which_the_event_loop_stood_still_is_given_to_everybody() -> None:
    loop = asyncio.get_running_loop()
    async with processes() as space:
        with Lookout() as lookout:
            child = space.spawn(wait)
            lookout.over(child, deadline_s=10.0)
            await asyncio.sleep(9.0)
            vars(loop)["_jumping"].now += 60.0  # as if a callback had taken a minute
            began = now()
            assert await child.wait_gone() == TimedOut(10.0)
            assert now() - began == 1.0


async def test_a_child_ended_for_want_of_progress_may_clean_up() -> None:
    cleaned: list[bool] = []

    async def clean_up(me: Mortal) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.0)
            cleaned.append(True)

    async with processes() as space:
        with Lookout() as lookout:
            child = space.spawn(clean_up)
            lookout.over(child, deadline_s=10.0)
            assert await child.wait_gone() == TimedOut(10.0)
    assert cleaned == [True]


async def test_a_child_that_finishes_in_time_ends_normally() -> None:
    async def work(me: Mortal) -> None:
        await asyncio.sleep(9.0)

    async with processes() as space:
        with Lookout() as lookout:
            child = space.spawn(work)
            lookout.over(child, deadline_s=10.0)
            assert await child.wait_gone() == Normal()


async def test_a_deadline_is_a_positive_number_of_seconds() -> None:
    async with processes() as space:
        with Lookout() as lookout, pytest.raises(InvalidOption, match="deadline_s"):
            lookout.over(space.spawn(wait), deadline_s=0.0)
