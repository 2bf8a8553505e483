"""Deadlines of local asks that are made in handlers: they end with the ask that the handler serves."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from regrow.actors import AskTimeout, LocalActor, LocalRef, LocalSystem, Message, command
from regrow.actors.deadlines import TRIM_AT, Deadlines
from regrow.actors.local_limit import limit_now
from regrow.bus import MailboxFull

pytestmark = pytest.mark.asyncio

Act = Callable[[], Awaitable[Any]]


class Do(Message[Any]):
    act: Act


class Worker(LocalActor):
    """Does what it is told, and lets nothing that goes wrong be its end."""

    @command
    async def do(self, msg: Do) -> Any:
        try:
            return await msg.act()
        except AskTimeout as error:
            return error


async def stuck(system: LocalSystem, key: str = "stuck") -> tuple[LocalRef, asyncio.Event]:
    """An actor in a handler that goes on when the event is set."""
    ref, started, until = system.spawn(Worker, key), asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        started.set()
        await until.wait()

    ref.tell(Do(act=wait))
    await started.wait()
    return ref, until


def asking(ref: LocalRef, timeout_s: float = 30.0, act: Act | None = None) -> Act:
    async def nothing() -> None: ...

    async def ask() -> Any:
        return await ref.ask(Do(act=act or nothing), timeout_s=timeout_s)

    return ask


async def test_an_ask_in_a_handler_ends_no_later_than_the_ask_that_it_serves() -> None:
    async with LocalSystem("demo") as system:
        worker, ended = system.spawn(Worker, "a"), asyncio.get_running_loop().create_future()
        blocked, until = await stuck(system)

        async def nested() -> None:
            try:
                await asking(blocked)()
            except AskTimeout as error:
                ended.set_result(error)

        with pytest.raises(AskTimeout, match=r"worker/a did not answer within 0\.02 s"):
            await worker.ask(Do(act=nested), timeout_s=0.02)
        error = await ended
        assert error.actor == "worker/stuck"
        assert error.timeout_s <= 0.02
        until.set()


async def test_the_limit_goes_through_several_actors() -> None:
    async with LocalSystem("demo") as system:
        blocked, until = await stuck(system)
        chain = asking(blocked)
        for number in range(4):
            chain = asking(system.spawn(Worker, f"w{number}"), act=chain)
        first = system.spawn(Worker, "first")
        with pytest.raises(AskTimeout):
            await first.ask(Do(act=chain), timeout_s=0.02)
        assert isinstance(await first.ask(Do(act=asking(blocked, 0.001))), AskTimeout)
        until.set()


async def test_a_shorter_limit_of_its_own_is_kept() -> None:
    async with LocalSystem("demo") as system:
        blocked, until = await stuck(system)
        error = await system.spawn(Worker, "a").ask(Do(act=asking(blocked, 0.001)), timeout_s=30.0)
        assert error.timeout_s == 0.001
        until.set()


async def test_what_a_handler_that_was_told_asks_has_its_own_limit() -> None:
    async with LocalSystem("demo") as system:
        worker, limits = system.spawn(Worker, "a"), list[float]()

        async def look() -> None:
            limits.extend(limit_now.get() or ())

        await worker.ask(Do(act=look))
        assert len(limits) == 1
        worker.tell(Do(act=look))
        await worker.ask(Do(act=look))
        assert len(limits) == 2


async def test_an_ask_in_a_handler_whose_time_is_over_fails_at_once_and_leaves_nothing() -> None:
    async with LocalSystem("demo") as system:
        blocked, until = await stuck(system)
        worker, go_on = system.spawn(Worker, "a"), asyncio.Event()
        ended: asyncio.Future[AskTimeout] = asyncio.get_running_loop().create_future()

        async def late() -> None:
            await go_on.wait()
            try:
                await asking(blocked)()
            except AskTimeout as error:
                ended.set_result(error)

        with pytest.raises(AskTimeout):
            await worker.ask(Do(act=late), timeout_s=0.001)
        go_on.set()
        assert (await ended).timeout_s == 0.0
        until.set()
        await asking(blocked)()
        assert system.dead_letters().counts["late"] == 0


async def test_the_tasks_of_a_handler_are_under_its_limit() -> None:
    async with LocalSystem("demo") as system:
        blocked, until = await stuck(system)
        ended: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()

        async def both() -> None:
            asks = (asking(blocked)(), asking(blocked)())
            ended.set_result(await asyncio.gather(*asks, return_exceptions=True))

        with pytest.raises(AskTimeout):
            await system.spawn(Worker, "a").ask(Do(act=both), timeout_s=0.01)
        assert [type(each) for each in await ended] == [AskTimeout, AskTimeout]
        until.set()


async def test_a_task_that_outlives_its_handler_asks_under_its_own_limits() -> None:
    async with LocalSystem("demo") as system:
        worker, answered, tasks = system.spawn(Worker, "a"), asyncio.Event(), list[asyncio.Task[Any]]()
        limits: list[int] = []

        async def outlive() -> None:
            limits.append(len(limit_now.get() or ()))
            await answered.wait()
            limits.append(len(limit_now.get() or ()))

        async def start() -> None:
            tasks.append(asyncio.create_task(outlive()))
            await asyncio.sleep(0)

        await worker.ask(Do(act=start))
        answered.set()
        await tasks[0]
        assert limits == [1, 0]


async def test_one_who_has_given_up_is_not_served_any_more() -> None:
    async with LocalSystem("demo") as system:
        blocked, until = await stuck(system)
        handled: list[str] = []

        async def handle() -> None:
            handled.append("handled")

        cancelled = asyncio.create_task(blocked.ask(Do(act=handle)))
        await asyncio.wait([cancelled], timeout=0)
        cancelled.cancel()
        with pytest.raises(AskTimeout):
            await blocked.ask(Do(act=handle), timeout_s=0.001)
        until.set()
        await asking(blocked)()
        assert handled == []
        assert system.dead_letters().counts["late"] == 2


async def test_a_handler_that_makes_its_asker_give_up_answers_nobody() -> None:
    async with LocalSystem("demo") as system:
        worker, tasks = system.spawn(Worker, "a"), list[asyncio.Task[Any]]()

        async def give_up() -> None:
            tasks[0].cancel()

        tasks.append(asyncio.create_task(worker.ask(Do(act=give_up))))
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()
        await asking(worker)()
        assert (system.dead_letters().counts["late_reply"], worker.restarts) == (1, 0)


async def test_an_ask_that_finds_no_room_leaves_no_deadline_behind() -> None:
    async with LocalSystem("demo") as system:
        worker, started, until = system.spawn(Worker, "a", mailbox_max=1), asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            started.set()
            await until.wait()

        worker.tell(Do(act=wait))
        await started.wait()
        worker.tell(Do(act=wait))
        with pytest.raises(MailboxFull):
            await worker.ask(Do(act=wait), timeout_s=0.001)
        with pytest.raises(AskTimeout):
            await system.spawn(Worker, "b").ask(Do(act=until.wait), timeout_s=0.002)
        until.set()


async def test_asks_cut_short_end_in_the_order_of_their_limits() -> None:
    deadlines, loop, order = Deadlines(), asyncio.get_running_loop(), list[int]()

    def noted(number: int, _: asyncio.Future[object]) -> None:
        order.append(number)

    first, replies = loop.time() + 0.05, dict[int, asyncio.Future[object]]()
    for number in (3, 1, 2, 5, 4):
        reply = replies[number] = loop.create_future()
        reply.add_done_callback(partial(noted, number))
        assert deadlines.cut_short(reply, first + number * 0.001, f"a/{number}") == first + number * 0.001
    replies[5].set_result(None)
    results = await asyncio.gather(*(replies[number] for number in (1, 2, 3, 4)), return_exceptions=True)
    assert [str(each).split()[0] for each in results] == ["a/1", "a/2", "a/3", "a/4"]
    assert order == [5, 1, 2, 3, 4]
    deadlines.close()


async def test_answered_asks_that_were_cut_short_do_not_pile_up() -> None:
    deadlines, loop = Deadlines(), asyncio.get_running_loop()
    slow: asyncio.Future[object] = loop.create_future()
    deadlines.cut_short(slow, loop.time() + 30.0, "counter/slow")
    for number in range(2_000):
        quick: asyncio.Future[object] = loop.create_future()
        deadlines.cut_short(quick, loop.time() + 30.0 - number / 1_000, "counter/quick")
        quick.set_result(None)
    assert len(deadlines) <= 2 * TRIM_AT
    deadlines.close()
    assert not slow.done()
