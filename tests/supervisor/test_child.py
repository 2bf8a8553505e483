"""One child alone; the OTP cases sup_stop_timeout, sup_stop_brutal_kill and sup_stop_infinity begin here."""

import asyncio
from contextvars import copy_context

import pytest
from structlog.testing import capture_logs

from regrow.supervisor import (
    ChildSpec,
    Crashed,
    Died,
    Exit,
    Exited,
    Hung,
    Killed,
    Normal,
    Run,
    Shutdown,
    ShutdownTime,
    Start,
    StartFailed,
    StartTimedOut,
)
from regrow.supervisor.child import Child
from regrow.supervisor.deadlines import Deadlines

pytestmark = pytest.mark.asyncio


async def serve(start: Start) -> None:
    start.ready()
    await asyncio.Event().wait()


async def never_ready(start: Start) -> None:
    await asyncio.Event().wait()


class Refusing:
    """Ignores cancellation until the test releases it."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.released = asyncio.Event()

    async def run(self, start: Start) -> None:
        start.ready()
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.cancelled += 1


def launch(run: Run, *, shutdown: ShutdownTime = 5.0, start_timeout_s: float = 30.0) -> tuple[Child, list[Exit]]:
    exits: list[Exit] = []
    spec = ChildSpec(id="worker", run=run, shutdown=shutdown, start_timeout_s=start_timeout_s)
    child = Child(spec, "worker", exits.append, Deadlines())
    child.launch(None, 0, now(), copy_context())
    return child, exits


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_child_has_started_when_it_says_so() -> None:
    child, exits = launch(serve)
    assert child.ready_at is None
    await child.wait_started()
    assert child.ready_at is not None
    assert exits == []
    await child.stop()


async def test_a_child_is_told_why_it_was_restarted() -> None:
    told: list[Start] = []

    async def listen(start: Start) -> None:
        told.append(start)

    child = Child(ChildSpec(id="worker", run=listen), "worker", lambda cause: None, Deadlines())
    child.launch(Hung(5.0), 3, now(), copy_context())
    await child.wait_started()
    assert [(start.cause, start.restarts) for start in told] == [(Hung(5.0), 3)]


async def test_a_child_that_finishes_without_being_ready_has_started() -> None:
    async def nothing_to_do(start: Start) -> None:
        pass

    child, exits = launch(nothing_to_do)
    await child.wait_started()
    assert exits == [Normal()]


async def test_a_child_that_dies_before_it_is_ready_has_failed_to_start() -> None:
    error = ValueError("bad port")

    async def fail(start: Start) -> None:
        raise error

    child, exits = launch(fail)
    with pytest.raises(StartFailed) as caught:
        await child.wait_started()
    assert caught.value.__cause__ is error
    assert (caught.value.child, caught.value.cause) == ("worker", Crashed(error))
    assert exits == [Crashed(error)]


async def test_a_child_that_dies_right_after_it_was_ready_has_started() -> None:
    async def short(start: Start) -> None:
        start.ready()
        raise ValueError

    child, exits = launch(short)
    await asyncio.sleep(1.0)
    await child.wait_started()
    assert [type(cause) for cause in exits] == [Crashed]


async def test_a_run_that_is_no_coroutine_function_fails_to_start() -> None:
    child, _ = launch(lambda start: None)  # type: ignore[arg-type,return-value] # pyright: ignore[reportArgumentType]
    with pytest.raises(StartFailed) as caught:
        await child.wait_started()
    assert isinstance(caught.value.__cause__, TypeError)


async def test_a_child_that_is_not_ready_in_time_is_cancelled_and_has_failed_to_start() -> None:
    child, exits = launch(never_ready, start_timeout_s=2.5)
    with capture_logs() as logs, pytest.raises(StartFailed) as caught:
        await child.wait_started()
    assert now() == 2.5
    assert isinstance(caught.value.__cause__, StartTimedOut)
    assert exits == [caught.value.cause]
    assert [line["event"] for line in logs] == ["child_start_overdue"]


async def test_a_ready_child_has_no_start_timeout_any_more() -> None:
    child, exits = launch(serve, start_timeout_s=1.0)
    await child.wait_started()
    await asyncio.sleep(10.0)
    assert exits == []
    await child.stop()


async def test_ready_may_be_said_twice_and_the_first_time_counts() -> None:
    async def eager(start: Start) -> None:
        start.ready()
        await asyncio.sleep(1.0)
        start.ready()
        await asyncio.Event().wait()

    child, _ = launch(eager)
    await asyncio.sleep(2.0)
    assert child.ready_at == 0.0
    await child.stop()


async def test_ready_said_after_the_timeout_comes_too_late() -> None:
    async def late(start: Start) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            start.ready()

    child, _ = launch(late, start_timeout_s=1.0)
    with pytest.raises(StartFailed):
        await child.wait_started()
    assert child.ready_at is None


async def test_a_child_that_goes_when_asked_was_shut_down() -> None:
    child, exits = launch(serve)
    await child.wait_started()
    assert await child.stop() == Shutdown()
    assert exits == [Shutdown()]


async def test_a_child_that_returns_when_asked_was_shut_down() -> None:
    async def polite(start: Start) -> None:
        start.ready()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    child, _ = launch(polite)
    await child.wait_started()
    assert await child.stop() == Shutdown()


async def test_a_child_that_fails_while_it_stops_has_crashed() -> None:
    error = OSError("disk full")

    async def untidy(start: Start) -> None:
        start.ready()
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    child, _ = launch(untidy)
    await child.wait_started()
    assert await child.stop() == Crashed(error)


async def test_stopping_a_dead_child_answers_how_it_died() -> None:
    async def nothing_to_do(start: Start) -> None:
        pass

    child, exits = launch(nothing_to_do)
    await child.wait_started()
    assert await child.stop() == Normal()
    assert exits == [Normal()]


async def test_a_child_may_be_stopped_before_its_first_step() -> None:
    child, exits = launch(serve)
    assert await child.stop() == Shutdown()
    assert exits == [Shutdown()]


async def test_stopping_an_overdue_child_waits_for_the_one_cancellation() -> None:
    cleaning = asyncio.Event()

    async def slow_to_clean(start: Start) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.sleep(1.0)

    child, _ = launch(slow_to_clean, start_timeout_s=2.0)
    await cleaning.wait()
    cause = await child.stop()
    assert now() == 3.0
    assert isinstance(cause, Crashed)
    assert isinstance(cause.error, StartTimedOut)


async def test_a_child_asked_to_go_while_it_starts_has_no_start_timeout_any_more() -> None:
    starting = asyncio.Event()

    async def slow_to_clean(start: Start) -> None:
        starting.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(4.0)

    child, _ = launch(slow_to_clean, start_timeout_s=1.0)
    await starting.wait()
    with capture_logs() as logs:
        assert await child.stop() == Shutdown()
    assert now() == 4.0
    assert logs == []


async def test_a_cancellation_that_nobody_asked_for_is_a_crash() -> None:
    async def trip(start: Start) -> None:
        start.ready()
        dead = asyncio.get_running_loop().create_future()
        dead.cancel()
        await dead

    child, _ = launch(trip)
    await asyncio.sleep(1.0)
    assert isinstance(child.exit, Crashed)
    assert isinstance(child.exit.error, asyncio.CancelledError)


async def test_a_child_may_take_all_of_its_shutdown_time() -> None:
    async def slow(start: Start) -> None:
        start.ready()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(4.0)

    child, _ = launch(slow, shutdown=5.0)
    await child.wait_started()
    assert await child.stop() == Shutdown()
    assert now() == 4.0


async def test_a_child_that_refuses_to_go_is_abandoned_loudly_after_its_time() -> None:
    refusing = Refusing()
    child, exits = launch(refusing.run, shutdown=5.0)
    await child.wait_started()
    with capture_logs() as logs:
        assert await child.stop() == Hung(5.0)
        assert now() == 5.0
        await asyncio.sleep(0.0)
        assert refusing.cancelled == 2
        refusing.released.set()
        await asyncio.sleep(1.0)
    assert exits == [Hung(5.0)]
    assert [(line["event"], line["log_level"], line["child"]) for line in logs] == [
        ("child_abandoned", "error", "worker"),
        ("abandoned_child_ended", "info", "worker"),
    ]


async def test_a_brutally_stopped_child_gets_no_time() -> None:
    cleaned: list[str] = []

    async def slow(start: Start) -> None:
        start.ready()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.0)
            cleaned.append("never: the second cancellation interrupts the cleaning")

    child, exits = launch(slow, shutdown="brutal")
    await child.wait_started()
    with capture_logs() as logs:
        assert await child.stop() == Hung(0.0)
        assert now() == 0.0
        await asyncio.sleep(2.0)
    assert exits == [Hung(0.0)]
    assert cleaned == []
    assert [line["log_level"] for line in logs] == ["info", "info"]


async def test_a_brutally_stopped_child_that_goes_at_once_was_shut_down() -> None:
    child, _ = launch(serve, shutdown="brutal")
    await child.wait_started()
    assert await child.stop() == Shutdown()


async def test_a_child_with_infinite_shutdown_is_waited_for() -> None:
    async def very_slow(start: Start) -> None:
        start.ready()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(100_000.0)

    child, _ = launch(very_slow, shutdown="infinity")
    await child.wait_started()
    assert await child.stop() == Shutdown()
    assert now() == 100_000.0


async def test_all_watchers_are_told_in_their_order_each_once_and_before_the_supervisor() -> None:
    told: list[str] = []

    class Watcher:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, cause: Exit) -> None:
            told.append(f"{self.name} {type(cause).__name__}")

    spec = ChildSpec(id="worker", run=serve)
    child = Child(spec, "worker", lambda cause: told.append("supervisor"), Deadlines())
    child.launch(None, 0, now(), copy_context())
    a, b = Watcher("a"), Watcher("b")
    for watcher in (a, b, a):
        child.watch(watcher)
    await child.stop()
    assert told == ["a Shutdown", "b Shutdown", "supervisor"]
    child.watch(b)
    assert told[3:] == ["b Shutdown"]


async def test_the_first_cause_counts_for_a_child_that_is_ended() -> None:
    child, exits = launch(serve)
    await child.wait_started()
    child.end(Killed(9))
    child.end(Hung(1.0))
    assert await child.stop() == Killed(9)
    child.end(Normal())
    assert exits == [Killed(9)]


async def test_a_child_that_says_how_it_died_died_so() -> None:
    async def process(start: Start) -> None:
        start.ready()
        raise Died(Exited(3))

    child, exits = launch(process)
    assert await child.wait_gone() == Exited(3)
    assert exits == [Exited(3)]


async def test_a_waiter_that_is_cancelled_takes_nothing_with_it() -> None:
    child, exits = launch(never_ready)
    waiters = [asyncio.create_task(child.wait_started()), asyncio.create_task(child.wait_gone())]
    await asyncio.sleep(1.0)
    waiters[0].cancel()
    await child.stop()
    assert await waiters[1] == Shutdown()
    assert exits == [Shutdown()]
