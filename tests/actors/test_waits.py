"""When a turn only waits for what ends in a message, and when it waits for a clock or a thread of its own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from regrow.actors.waits import SOON_MS, Waits, keeps_time

pytestmark = pytest.mark.asyncio

NOW_MS = 1_000_000


def never() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def known(inner: Callable[[], Awaitable[object]]) -> None:
    """Stands for a step, below which nothing is looked at."""
    await inner()


async def wait_for_tasks() -> None:
    await asyncio.gather(known(never), known(never))


async def wait_in_a_group() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(known(never))


async def wait_for_some() -> None:
    await asyncio.wait([asyncio.ensure_future(known(never))])


async def wait_in_a_step() -> None:
    await known(lambda: asyncio.sleep(60))


async def sleep() -> None:
    await asyncio.sleep(60)


async def sleep_in_a_generator() -> None:
    async def numbers() -> AsyncGenerator[int]:
        await asyncio.sleep(60)
        yield 1

    async for _ in numbers():
        pass


async def wait_for_a_time() -> None:
    await asyncio.wait([asyncio.ensure_future(known(never))], timeout=60)


async def wait_within() -> None:
    async with asyncio.timeout(60):
        await known(never)


async def wait_without_an_end() -> None:
    async with asyncio.timeout(None):
        await known(never)


async def wait_for_within() -> None:
    await asyncio.wait_for(known(never), 60)


async def work_in_a_thread() -> None:
    await asyncio.to_thread(time.sleep, 0.05)


@pytest.mark.parametrize("code", [wait_for_tasks, wait_in_a_group, wait_for_some, wait_in_a_step, wait_without_an_end])
async def test_a_task_that_waits_for_others_keeps_no_time(code: Callable[[], Awaitable[None]]) -> None:
    assert not await _keeps_time(code)


@pytest.mark.parametrize(
    "code",
    [sleep, sleep_in_a_generator, wait_for_a_time, wait_within, wait_for_within, work_in_a_thread],
)
async def test_a_task_that_waits_for_a_clock_or_a_thread_is_at_work(code: Callable[[], Awaitable[None]]) -> None:
    assert await _keeps_time(code)


async def _keeps_time(code: Callable[[], Awaitable[None]]) -> bool:
    task = asyncio.ensure_future(code())
    for _ in range(5):
        await asyncio.sleep(0)
    try:
        return keeps_time((task,), (known.__code__,))
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_a_turn_is_quiet_when_all_its_steps_wait() -> None:
    waits, answer = Waits(), never()
    assert waits.quiet_s() is None
    waits.enter()
    with waits.waiting(answer, "a1-0", NOW_MS + 2 * SOON_MS):
        assert waits.quiet_s() is not None
        assert waits.due(NOW_MS) == {"a1-0": NOW_MS + 2 * SOON_MS}
        moves = waits.moves
        waits.enter()
        assert waits.quiet_s() is None
        waits.leave()
        assert waits.quiet_s() is not None and waits.moves > moves
        answer.set_result(None)
        assert waits.quiet_s() is None
    waits.leave()
    assert waits.quiet_s() is None and waits.due(NOW_MS) is None


async def test_a_wait_that_ends_soon_keeps_its_turn_here() -> None:
    waits = Waits()
    with waits.waiting(never(), "a1-0", NOW_MS + 10 * SOON_MS), waits.waiting(never(), "s2-1", NOW_MS + SOON_MS):
        assert waits.due(NOW_MS) is None
        assert waits.due(NOW_MS - 1) is not None
