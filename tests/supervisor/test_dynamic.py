"""Elixir's DynamicSupervisor tests, and the simple_one_for_one cases of OTP's supervisor_SUITE."""

import asyncio
import contextvars

import pytest
from structlog.testing import capture_logs
from tests.supervisor.puppet import AT_ONCE, Puppet, now, puppets, settle

from regrow.supervisor import (
    Backoff,
    ChildCounts,
    ChildNotFound,
    ChildSpec,
    ChildState,
    Crashed,
    DynamicSupervisor,
    Exit,
    Hung,
    Intensity,
    InvalidOption,
    MaxChildrenReached,
    Mortal,
    Normal,
    NotRunning,
    Restart,
    RestartIntensityReached,
    Shutdown,
    ShutdownTime,
    Start,
    StartFailed,
    Supervisor,
    SupervisorStopped,
)

pytestmark = pytest.mark.asyncio

OFTEN = Intensity(100_000, per_s=1.0)


async def serve(start: Start) -> None:
    start.ready()
    await asyncio.Event().wait()


async def slow_to_stop(start: Start) -> None:
    start.ready()
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(4.0)


def states(supervisor: DynamicSupervisor) -> list[tuple[str, ChildState]]:
    return [(child.id, child.state) for child in supervisor.which_children()]


# Starting


async def test_it_starts_empty_and_stops() -> None:
    async with DynamicSupervisor("pool") as pool:
        assert (pool.which_children(), pool.count_children()) == ((), ChildCounts(0, 0, 0, 0))


async def test_it_can_be_supervised_itself() -> None:
    pool = DynamicSupervisor("pool")
    async with Supervisor("root", children=[pool.child_spec()]) as root:
        await pool.start_child(serve)
        assert root.count_children().supervisors == 1
        assert [child.name for child in root.tree().children[0].children] == ["serve"]


async def test_a_child_is_started_by_its_spec(story: list[str]) -> None:
    a = Puppet("a", story)
    async with DynamicSupervisor("pool") as pool:
        child = await pool.start_child(a.spec())
        assert child is pool.child("a")
        assert states(pool) == [("a", "running")]


async def test_a_coroutine_function_is_started_as_a_temporary_child() -> None:
    async with DynamicSupervisor("pool") as pool:
        child = await pool.start_child(serve)
        assert (child.name, pool.get_childspec("serve").restart) == ("serve", "temporary")


async def test_one_spec_may_be_started_many_times_and_each_has_a_name_of_its_own() -> None:
    async with DynamicSupervisor("pool") as pool:
        spec = ChildSpec(id="worker", run=serve)
        names = [(await pool.start_child(spec)).name for _ in range(3)]
        assert names == ["worker", "worker#1", "worker#2"]


async def test_children_start_at_the_same_time() -> None:
    async def slow(start: Start) -> None:
        await asyncio.sleep(3.0)
        start.ready()
        await asyncio.Event().wait()

    async with DynamicSupervisor("pool") as pool:
        await asyncio.gather(*(pool.start_child(slow) for _ in range(5)))
        assert now() == 3.0


async def test_a_child_that_fails_to_start_is_told_to_the_caller_and_forgotten(story: list[str]) -> None:
    a = Puppet("a", story)
    a.failing = True
    async with DynamicSupervisor("pool", intensity=Intensity(0)) as pool:
        with pytest.raises(StartFailed) as caught:
            await pool.start_child(a.spec())
        assert isinstance(caught.value.__cause__, OSError)
        await settle()
        assert (pool.which_children(), len(a.starts)) == ((), 1)


async def test_a_child_that_finishes_at_once_has_started() -> None:
    async def nothing_to_do(start: Start) -> None:
        pass

    async with DynamicSupervisor("pool") as pool:
        child = await pool.start_child(nothing_to_do)
        assert (child.exit, pool.which_children()) == (Normal(), ())


async def test_a_child_may_start_another_before_it_is_ready_itself(story: list[str]) -> None:
    b = Puppet("b", story)
    async with DynamicSupervisor("pool") as pool:

        async def parent(start: Start) -> None:
            await pool.start_child(b.spec())
            start.ready()
            await asyncio.Event().wait()

        await pool.start_child(parent)
        assert states(pool) == [(pool.which_children()[0].id, "running"), ("b", "running")]


async def test_a_caller_that_is_cancelled_leaves_the_child_to_the_supervisor() -> None:
    async def slow(start: Start) -> None:
        await asyncio.sleep(3.0)
        start.ready()
        await asyncio.Event().wait()

    async with DynamicSupervisor("pool") as pool:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.start_child(ChildSpec(id="a", run=slow)), 1.0)
        assert states(pool) == [("a", "starting")]
        await asyncio.sleep(3.0)
        assert states(pool) == [("a", "running")]


async def test_a_child_does_not_inherit_the_context_of_who_asked_for_it() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    async def look(start: Start) -> None:
        seen.append(request.get())

    async with DynamicSupervisor("pool") as pool:
        request.set("17")
        await pool.start_child(look)
    assert seen == ["none"]


async def test_a_significant_child_is_refused() -> None:
    async with DynamicSupervisor("pool") as pool:
        with pytest.raises(InvalidOption, match="is significant"):
            await pool.start_child(ChildSpec(id="a", run=serve, restart="transient", significant=True))


async def test_it_has_to_run_to_start_a_child() -> None:
    pool = DynamicSupervisor("pool")
    with pytest.raises(NotRunning):
        await pool.start_child(serve)
    async with pool:
        pass
    with pytest.raises(SupervisorStopped):
        await pool.start_child(serve)


async def test_a_child_that_is_starting_when_the_supervisor_stops_is_stopped_and_its_caller_told() -> None:
    async def never_ready(start: Start) -> None:
        await asyncio.Event().wait()

    async with DynamicSupervisor("pool") as pool:
        call = asyncio.create_task(pool.start_child(never_ready))
        await settle()
        await pool.stop()
        with pytest.raises(SupervisorStopped):
            await call


# children_max


async def test_no_more_children_are_started_than_there_may_be(story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with DynamicSupervisor("pool", children_max=1) as pool:
        await pool.start_child(a.spec("temporary"))
        with pytest.raises(MaxChildrenReached, match="has 1 children, as many as it may; wait until one is gone"):
            await pool.start_child(b.spec())
        a.finish()
        await settle()
        await pool.start_child(b.spec())


async def test_with_a_maximum_of_none_at_all_every_child_is_refused() -> None:
    async with DynamicSupervisor("pool", children_max=0) as pool:
        with pytest.raises(MaxChildrenReached):
            await pool.start_child(serve)


async def test_children_that_wait_for_their_restart_count(story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with DynamicSupervisor("pool", children_max=1, draw=lambda: 0.5) as pool:
        await pool.start_child(a.spec(backoff=Backoff(first_s=5.0)))
        a.crash(ValueError())
        await settle()
        assert pool.count_children() == ChildCounts(specs=1, active=0, supervisors=0, workers=1)
        with pytest.raises(MaxChildrenReached):
            await pool.start_child(b.spec())


async def test_a_negative_maximum_is_refused() -> None:
    with pytest.raises(InvalidOption, match="children_max must be 0 or more, or None, not -1"):
        DynamicSupervisor("pool", children_max=-1)


# Restarting


async def test_a_temporary_child_is_not_restarted_whatever_its_end(story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with DynamicSupervisor("pool") as pool:
        for puppet in (a, b):
            await pool.start_child(puppet.spec("temporary"))
        a.finish()
        b.crash(ValueError())
        await settle()
        assert pool.count_children() == ChildCounts(0, 0, 0, 0)


async def test_a_transient_child_is_restarted_unless_it_ended_cleanly(story: list[str]) -> None:
    a, b, c = puppets("abc", story)
    async with DynamicSupervisor("pool") as pool:
        for puppet in (a, b, c):
            await pool.start_child(puppet.spec("transient"))
        a.finish()
        pool.child("b").end(Shutdown())
        c.crash(ValueError())
        await c.wait_came(2)
        assert states(pool) == [("c", "running")]


async def test_a_permanent_child_is_restarted_whatever_its_end(story: list[str]) -> None:
    a, b, c = puppets("abc", story)
    async with DynamicSupervisor("pool") as pool:
        for puppet in (a, b, c):
            await pool.start_child(puppet.spec())
        a.finish()
        pool.child("b").end(Shutdown())
        c.crash(ValueError())
        for puppet in (a, b, c):
            await puppet.wait_came(2)
        assert pool.count_children().active == 3


@pytest.mark.parametrize(("restart", "left"), [("permanent", 1), ("transient", 0), ("temporary", 0)])
async def test_a_restarted_child_that_finishes_while_it_starts_ends_as_its_restart_type_says(
    restart: Restart, left: int
) -> None:
    crash = asyncio.Event()

    async def good_once(start: Start) -> None:
        if start.restarts == 1:
            return
        start.ready()
        await crash.wait()
        crash.clear()
        raise ValueError

    async with DynamicSupervisor("pool") as pool:
        await pool.start_child(ChildSpec(id="a", run=good_once, restart=restart, backoff=AT_ONCE))
        crash.set()
        await settle()
        assert len(pool.which_children()) == left


async def test_a_restart_that_fails_is_tried_again(story: list[str]) -> None:
    a = Puppet("a", story)
    async with DynamicSupervisor("pool", intensity=Intensity(2)) as pool:
        await pool.start_child(a.spec())
        a.failing = True
        a.crash(ValueError())
        await a.wait_came(2)
        a.failing = False
        await a.wait_came(3)
        assert states(pool) == [("a", "running")]


async def test_restarts_that_fail_too_often_give_up(story: list[str]) -> None:
    a, b = puppets("ab", story)
    with pytest.raises(RestartIntensityReached):
        async with DynamicSupervisor("pool", intensity=Intensity(10)) as pool:
            await pool.start_child(b.spec())
            await pool.start_child(a.spec())
            a.failing = True
            a.crash(ValueError())
            await pool.wait_stopped()
    assert len(a.starts) == 11
    assert story[-1] == "b went"


async def test_stop_comes_between_restarts_that_fail_for_ever(story: list[str]) -> None:
    a = Puppet("a", story)
    async with DynamicSupervisor("pool", intensity=Intensity(10**9, per_s=1.0)) as pool:
        await pool.start_child(a.spec())
        a.failing = True
        a.crash(ValueError())
        await a.wait_came(100)
        await pool.stop()
        assert pool.which_children() == ()


# Stopping


async def test_all_children_stop_at_the_same_time() -> None:
    async with DynamicSupervisor("pool") as pool:
        for _ in range(100):
            await pool.start_child(slow_to_stop)
    assert now() == 4.0


@pytest.mark.parametrize(("shutdown", "end"), [("brutal", Hung(0.0)), (1.0, Hung(1.0)), ("infinity", Shutdown())])
async def test_each_child_has_its_own_time_to_stop(shutdown: ShutdownTime, end: Exit) -> None:
    exits: list[Exit] = []
    with capture_logs():
        async with DynamicSupervisor("pool") as pool:
            await pool.start_child(serve)
            child = await pool.start_child(ChildSpec(id="a", run=slow_to_stop, shutdown=shutdown))
            child.watch(exits.append)
        await asyncio.sleep(10.0)
    assert exits == [end]


async def test_a_child_that_fails_while_it_stops_is_reported_and_the_others_stop() -> None:
    async def untidy(start: Start) -> None:
        start.ready()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("disk full")

    with capture_logs() as logs:
        async with DynamicSupervisor("pool") as pool:
            await pool.start_child(serve)
            await pool.start_child(untidy)
    assert [(line["event"], line["error"], line["action"]) for line in logs] == [("child_died", "OSError", "stop")]


async def test_a_child_is_terminated_by_its_handle_and_forgotten(story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with DynamicSupervisor("pool") as pool:
        handle = await pool.start_child(a.spec())
        await pool.start_child(b.spec())
        await pool.terminate_child(handle)
        assert (handle.exit, states(pool)) == (Shutdown(), [("b", "running")])
        with pytest.raises(ChildNotFound):
            await pool.terminate_child(handle)


async def test_a_child_is_terminated_by_its_name(story: list[str]) -> None:
    a = Puppet("a", story)
    async with DynamicSupervisor("pool") as pool:
        await pool.start_child(a.spec())
        await pool.terminate_child("a")
        with pytest.raises(ChildNotFound):
            await pool.terminate_child("a")
    assert len(a.starts) == 1


async def test_a_handle_still_stands_for_its_child_after_a_restart_and_never_for_another(story: list[str]) -> None:
    a = Puppet("a", story)
    async with DynamicSupervisor("pool") as pool:
        handle = await pool.start_child(a.spec())
        a.crash(ValueError())
        await a.wait_came(2)
        await pool.terminate_child(handle)
        assert pool.which_children() == ()
        await pool.start_child(a.spec())
        with pytest.raises(ChildNotFound):
            await pool.terminate_child(handle)
        assert states(pool) == [("a", "running")]


async def test_a_child_that_waits_for_its_restart_is_terminated_at_once(story: list[str]) -> None:
    a = Puppet("a", story)
    async with DynamicSupervisor("pool", draw=lambda: 0.5) as pool:
        handle = await pool.start_child(a.spec(backoff=Backoff(first_s=5.0)))
        a.crash(ValueError())
        await settle()
        await pool.terminate_child(handle)
        assert pool.which_children() == ()
        await asyncio.sleep(20.0)
    assert len(a.starts) == 1


async def test_a_terminated_child_is_not_restarted_though_the_caller_did_not_wait_for_its_end() -> None:
    async with DynamicSupervisor("pool") as pool:
        child = await pool.start_child(ChildSpec(id="a", run=slow_to_stop))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.terminate_child(child), 1.0)
        assert states(pool) == [("a", "running")]
        await asyncio.sleep(10.0)
        assert (child.exit, pool.which_children()) == (Shutdown(), ())


async def test_leaving_waits_for_a_child_that_is_being_terminated() -> None:
    exits: list[Exit] = []
    async with DynamicSupervisor("pool") as pool:
        child = await pool.start_child(ChildSpec(id="a", run=slow_to_stop))
        child.watch(exits.append)
        call = asyncio.create_task(pool.terminate_child(child))
        await settle()
    assert exits == [Shutdown()]
    await call


async def test_many_temporary_children_leave_nothing_behind() -> None:
    ended: list[Mortal] = []

    async def short(start: Start) -> None:
        ended.append(start.me)

    async with DynamicSupervisor("pool", intensity=Intensity(0)) as pool:
        for _ in range(1000):
            await pool.start_child(short)
        assert (len(ended), pool.which_children()) == (1000, ())
        assert len(asyncio.all_tasks()) == 2


async def test_a_crash_of_one_is_told_to_its_next_incarnation_alone(story: list[str]) -> None:
    a, b, error = Puppet("a", story), Puppet("b", story), ValueError()
    async with DynamicSupervisor("pool", intensity=OFTEN) as pool:
        await pool.start_child(a.spec())
        await pool.start_child(b.spec())
        a.crash(error)
        await a.wait_came(2)
        assert a.starts[1].cause == Crashed(error)
        assert len(b.starts) == 1
