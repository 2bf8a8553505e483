"""The cases of OTP's supervisor_SUITE and Elixir's supervisor_test that apply to one_for_one with fixed children."""

import asyncio
import gc
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs
from tests.supervisor.puppet import AT_ONCE, Puppet, now, settle

from regrow.supervisor import (
    AlreadyRunning,
    Backoff,
    ChildInfo,
    ChildSpec,
    Crashed,
    DuplicateChild,
    Hung,
    Intensity,
    Normal,
    NotRunning,
    Restart,
    RestartIntensityReached,
    Run,
    Shutdown,
    Start,
    StartFailed,
    StartTimedOut,
    Supervisor,
)

OFTEN = Intensity(1000, per_s=1.0)


def crash(puppet: Puppet) -> None:
    puppet.crash(ValueError())


def failing(error: BaseException) -> Run:
    async def fail(start: Start) -> None:
        raise error

    return fail


async def never_ready(start: Start) -> None:
    await asyncio.Event().wait()


# Starting


@pytest.mark.asyncio
async def test_a_supervisor_without_children_starts_and_stops() -> None:
    async with Supervisor("root", children=[]) as tree:
        assert tree.which_children() == ()


@pytest.mark.asyncio
async def test_children_start_in_order_and_stop_in_reverse(story: list[str]) -> None:
    puppets = [Puppet(name, story) for name in "abc"]
    async with Supervisor("root", children=[puppet.spec() for puppet in puppets]):
        assert story == ["a came", "b came", "c came"]
    assert story[3:] == ["c went", "b went", "a went"]


@pytest.mark.asyncio
async def test_a_child_starts_only_when_the_one_before_it_is_ready(story: list[str]) -> None:
    async def slow(start: Start) -> None:
        story.append("a came")
        await asyncio.sleep(3.0)
        story.append("a ready")
        start.ready()
        await asyncio.Event().wait()

    async with Supervisor("root", children=[ChildSpec(id="a", run=slow), Puppet("b", story).spec()]):
        assert story == ["a came", "a ready", "b came"]
        assert now() == 3.0


@pytest.mark.asyncio
async def test_two_children_of_one_name_are_refused_before_anything_starts(story: list[str]) -> None:
    with pytest.raises(DuplicateChild):
        Supervisor("root", children=[Puppet("a", story).spec(), Puppet("a", story).spec()])
    assert story == []


@pytest.mark.asyncio
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_a_start_that_fails_undoes_the_ones_before_it_in_reverse(restart: Restart, story: list[str]) -> None:
    error = ValueError("bad port")
    failed = ChildSpec(id="c", run=failing(error), restart=restart)
    children = [Puppet("a", story).spec(), Puppet("b", story).spec(), failed, Puppet("d", story).spec()]
    with pytest.raises(StartFailed) as caught:
        async with Supervisor("root", children=children):
            story.append("entered")
    assert story == ["a came", "b came", "b went", "a went"]
    assert (caught.value.child, caught.value.cause) == ("c", Crashed(error))
    assert caught.value.__cause__ is error


@pytest.mark.asyncio
async def test_a_child_that_never_becomes_ready_fails_the_start(story: list[str]) -> None:
    silent = ChildSpec(id="b", run=never_ready, start_timeout_s=2.0)
    with pytest.raises(StartFailed) as caught:
        async with Supervisor("root", children=[Puppet("a", story).spec(), silent]):
            story.append("entered")
    assert now() == 2.0
    assert isinstance(caught.value.__cause__, StartTimedOut)
    assert story == ["a came", "a went"]


@pytest.mark.asyncio
async def test_a_child_that_finishes_at_once_lets_the_next_one_start(story: list[str]) -> None:
    async def nothing_to_do(start: Start) -> None:
        story.append("a did nothing")

    idle = ChildSpec(id="a", run=nothing_to_do, restart="transient")
    async with Supervisor("root", children=[idle, Puppet("b", story).spec()]) as tree:
        await settle()
        assert story == ["a did nothing", "b came"]
        assert tree.which_children() == (
            ChildInfo("a", "stopped", 0, Normal()),
            ChildInfo("b", "running", 0, None),
        )


@pytest.mark.asyncio
async def test_a_death_while_siblings_start_is_handled_once_they_have(story: list[str]) -> None:
    a = Puppet("a", story)

    async def slow(start: Start) -> None:
        a.crash(ValueError())
        await asyncio.sleep(1.0)
        story.append("b ready")
        start.ready()
        await asyncio.Event().wait()

    async with Supervisor("root", children=[a.spec(), ChildSpec(id="b", run=slow)]):
        await a.wait_came(2)
        assert story == ["a came", "a went", "b ready", "a came"]


@pytest.mark.asyncio
async def test_a_cancelled_start_is_undone_in_reverse(story: list[str]) -> None:
    waiting = asyncio.Event()

    async def slow(start: Start) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def enter() -> None:
        async with Supervisor("root", children=[Puppet("a", story).spec(), ChildSpec(id="b", run=slow)]):
            story.append("entered")

    task = asyncio.create_task(enter())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert story == ["a came", "a went"]


# Restarting


@pytest.mark.asyncio
@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_a_crashed_child_is_restarted_and_told_why(restart: Restart, story: list[str]) -> None:
    a, error = Puppet("a", story), ValueError("boom")
    async with Supervisor("root", children=[a.spec(restart)]) as tree:
        assert (a.starts[0].cause, a.starts[0].restarts) == (None, 0)
        a.crash(error)
        await a.wait_came(2)
        assert (a.starts[1].cause, a.starts[1].restarts) == (Crashed(error), 1)
        assert tree.which_children() == (ChildInfo("a", "running", 1, Crashed(error)),)


@pytest.mark.asyncio
async def test_a_permanent_child_that_finished_is_restarted(story: list[str]) -> None:
    a = Puppet("a", story)
    async with Supervisor("root", children=[a.spec()]):
        a.finish()
        await a.wait_came(2)
        assert a.starts[1].cause == Normal()


@pytest.mark.asyncio
async def test_a_transient_child_that_finished_stays_listed_and_stopped(story: list[str]) -> None:
    a = Puppet("a", story)
    async with Supervisor("root", children=[a.spec("transient")]) as tree:
        a.finish()
        await settle()
        assert tree.which_children() == (ChildInfo("a", "stopped", 0, Normal()),)
    assert len(a.starts) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("end", [Puppet.finish, crash])
async def test_a_temporary_child_that_ended_is_forgotten(end: Callable[[Puppet], None], story: list[str]) -> None:
    a, b = Puppet("a", story), Puppet("b", story)
    async with Supervisor("root", children=[a.spec("temporary"), b.spec()], intensity=Intensity(0)) as tree:
        end(a)
        await settle()
        assert tree.which_children() == (ChildInfo("b", "running", 0, None),)
    assert len(a.starts) == 1


@pytest.mark.asyncio
async def test_the_death_of_one_child_leaves_its_siblings_alone(story: list[str]) -> None:
    a, b, c = (Puppet(name, story) for name in "abc")
    async with Supervisor("root", children=[a.spec(), b.spec(), c.spec()]) as tree:
        b.crash(ValueError())
        await b.wait_came(2)
        assert story == ["a came", "b came", "c came", "b went", "b came"]
        assert [child.id for child in tree.which_children()] == ["a", "b", "c"]
    assert story[5:] == ["c went", "b went", "a went"]


@pytest.mark.asyncio
async def test_several_children_may_die_within_the_intensity(story: list[str]) -> None:
    puppets = [Puppet(name, story) for name in "abc"]
    async with Supervisor("root", children=[puppet.spec() for puppet in puppets]) as tree:
        for puppet in puppets:
            puppet.crash(ValueError())
        for puppet in puppets:
            await puppet.wait_came(2)
        assert [child.restarts for child in tree.which_children()] == [1, 1, 1]


@pytest.mark.asyncio
async def test_a_restarted_child_that_is_slow_to_be_ready_holds_nobody_up(story: list[str]) -> None:
    crash, b = asyncio.Event(), Puppet("b", story)

    async def slow_the_second_time(start: Start) -> None:
        if start.restarts:
            await asyncio.sleep(20.0)
        start.ready()
        await crash.wait()
        raise ValueError

    slow = ChildSpec(id="a", run=slow_the_second_time, backoff=AT_ONCE)
    async with Supervisor("root", children=[slow, b.spec()]) as tree:
        crash.set()
        await settle()
        assert tree.which_children()[0].state == "starting"
        b.crash(ValueError())
        await b.wait_came(2)
        assert now() < 1.0


@pytest.mark.asyncio
async def test_a_restart_waits_for_its_backoff_and_is_listed_as_restarting(story: list[str]) -> None:
    a, error = Puppet("a", story), ValueError()
    backoff = Backoff(first_s=1.0, factor=3.0, max_s=20.0)
    supervisor = Supervisor("root", children=[a.spec(backoff=backoff)], intensity=OFTEN, draw=lambda: 0.5)
    came_at: list[float] = []
    async with supervisor as tree:
        for deaths in range(1, 6):
            a.crash(error)
            await settle()
            assert tree.which_children()[0].state == "restarting"
            await a.wait_came(deaths + 1)
            came_at.append(now())
    assert came_at == [0.5, 2.0, 6.5, 16.5, 26.5]


@pytest.mark.asyncio
async def test_a_child_that_ran_long_enough_has_its_first_backoff_again(story: list[str]) -> None:
    a = Puppet("a", story)
    backoff = Backoff(first_s=1.0, factor=3.0, max_s=20.0)
    async with Supervisor("root", children=[a.spec(backoff=backoff)], intensity=OFTEN, draw=lambda: 0.5):
        for deaths in (1, 2):
            a.crash(ValueError())
            await a.wait_came(deaths + 1)
        assert now() == 2.0
        await asyncio.sleep(20.0)
        a.crash(ValueError())
        await a.wait_came(4)
        assert now() == 22.5


@pytest.mark.asyncio
async def test_a_cancellation_from_outside_the_tree_is_a_crash_and_restarted(story: list[str]) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def stray(start: Start) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        start.ready()
        await asyncio.Event().wait()

    spec = ChildSpec(id="a", run=stray, backoff=AT_ONCE)
    async with Supervisor("root", children=[spec]) as tree:
        tasks[0].cancel()
        await settle()
        (info,) = tree.which_children()
        assert (info.state, info.restarts) == ("running", 1)
        assert isinstance(info.last, Crashed)
        assert isinstance(info.last.error, asyncio.CancelledError)


# Giving up


@pytest.mark.asyncio
async def test_too_many_deaths_stop_the_others_in_reverse_and_are_raised(story: list[str]) -> None:
    a, b, c = (Puppet(name, story) for name in "abc")
    children = [a.spec(), b.spec(), c.spec()]
    error = ValueError("second")
    with pytest.raises(RestartIntensityReached) as caught:
        async with Supervisor("root", children=children, intensity=Intensity(1, per_s=5.0)) as tree:
            b.crash(ValueError("first"))
            await b.wait_came(2)
            b.crash(error)
            await tree.wait_stopped()
    assert story[-3:] == ["b went", "c went", "a went"]
    gave_up = caught.value
    assert (gave_up.supervisor, gave_up.child, gave_up.exit) == ("root", "b", Crashed(error))
    assert gave_up.__cause__ is error


@pytest.mark.asyncio
async def test_deaths_spread_wider_than_the_period_never_make_it_give_up(story: list[str]) -> None:
    a = Puppet("a", story)
    async with Supervisor("root", children=[a.spec()], intensity=Intensity(1, per_s=5.0)):
        for deaths in range(1, 11):
            a.crash(ValueError())
            await a.wait_came(deaths + 1)
            await asyncio.sleep(5.5)
    assert len(a.starts) == 11


@pytest.mark.asyncio
async def test_a_restart_that_fails_counts_like_any_other_death(story: list[str]) -> None:
    starts: list[Start] = []
    crash = asyncio.Event()

    async def good_once(start: Start) -> None:
        starts.append(start)
        if start.restarts:
            raise ValueError(start.restarts)
        start.ready()
        await crash.wait()
        raise ValueError(0)

    spec = ChildSpec(id="a", run=good_once, backoff=AT_ONCE)
    with pytest.raises(RestartIntensityReached) as caught:
        async with Supervisor("root", children=[spec], intensity=Intensity(3, per_s=5.0)) as tree:
            crash.set()
            await tree.wait_stopped()
    assert len(starts) == 4
    assert str(caught.value.__cause__) == "3"


@pytest.mark.asyncio
async def test_a_supervisor_that_gave_up_unwatched_says_so_on_leaving(story: list[str]) -> None:
    a = Puppet("a", story)
    with pytest.raises(RestartIntensityReached):
        async with Supervisor("root", children=[a.spec()], intensity=Intensity(0)):
            a.crash(ValueError())
            await settle()
            story.append("body ended")
    assert story[-1] == "body ended"


@pytest.mark.asyncio
async def test_an_error_of_the_body_is_not_hidden_by_giving_up(story: list[str]) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    a = Puppet("a", story)
    with pytest.raises(KeyError):
        async with Supervisor("root", children=[a.spec()], intensity=Intensity(0)):
            a.crash(ValueError())
            await settle()
            raise KeyError
    gc.collect()
    assert complaints == []


@pytest.mark.asyncio
async def test_a_child_that_gave_no_error_leaves_the_failure_without_a_cause(story: list[str]) -> None:
    a = Puppet("a", story)
    with pytest.raises(RestartIntensityReached) as caught:
        async with Supervisor("root", children=[a.spec()], intensity=Intensity(0)) as tree:
            a.finish()
            await tree.wait_stopped()
    assert caught.value.exit == Normal()
    assert caught.value.__cause__ is None


# Stopping


@pytest.mark.asyncio
async def test_stop_between_two_failing_restarts_ends_an_endless_loop() -> None:
    failed = asyncio.Event()

    async def never_again(start: Start) -> None:
        if start.restarts > 100:
            failed.set()
        if start.restarts:
            raise ValueError
        start.ready()

    spec = ChildSpec(id="a", run=never_again, backoff=AT_ONCE)
    async with Supervisor("root", children=[spec], intensity=Intensity(10**9, per_s=1.0)) as tree:
        await failed.wait()
        await tree.stop()
        assert tree.which_children()[0].state == "stopped"


@pytest.mark.asyncio
async def test_a_child_that_waits_for_its_restart_does_not_come_back_after_stop(story: list[str]) -> None:
    a = Puppet("a", story)
    patient = Backoff(first_s=10.0)
    async with Supervisor("root", children=[a.spec(backoff=patient)], draw=lambda: 0.5) as tree:
        a.crash(ValueError())
        await settle()
        assert tree.which_children()[0].state == "restarting"
        await tree.stop()
        assert tree.which_children()[0].state == "stopped"
        await asyncio.sleep(100.0)
    assert len(a.starts) == 1


@pytest.mark.asyncio
async def test_stop_lets_who_waits_go_on_and_may_be_repeated(story: list[str]) -> None:
    async with Supervisor("root", children=[Puppet("a", story).spec()]) as tree:
        waiter = asyncio.create_task(tree.wait_stopped())
        await asyncio.gather(tree.stop(), tree.stop())
        await tree.stop()
        await waiter
        assert tree.which_children() == (ChildInfo("a", "stopped", 0, Shutdown()),)


@pytest.mark.asyncio
async def test_a_second_stop_does_not_cut_the_first_one_short(story: list[str]) -> None:
    stopping = asyncio.Event()

    async def slow(start: Start) -> None:
        start.ready()
        try:
            await asyncio.Event().wait()
        finally:
            stopping.set()
            await asyncio.sleep(3.0)
            story.append("b went")

    children = [Puppet("a", story).spec(), ChildSpec(id="b", run=slow)]
    async with Supervisor("root", children=children) as tree:
        first = asyncio.create_task(tree.stop())
        await stopping.wait()
        await tree.stop()
        assert story == ["a came", "b went", "a went"]
        await first


@pytest.mark.asyncio
async def test_a_child_may_stop_its_own_supervisor(story: list[str]) -> None:
    supervisor: Supervisor

    async def last_one(start: Start) -> None:
        start.ready()
        await asyncio.sleep(1.0)
        await supervisor.stop()

    supervisor = Supervisor("root", children=[Puppet("a", story).spec(), ChildSpec(id="b", run=last_one)])
    async with supervisor:
        await supervisor.wait_stopped()
        assert now() == 1.0
    assert story == ["a came", "a went"]


@pytest.mark.asyncio
async def test_a_child_that_refuses_to_go_is_abandoned_and_the_others_still_stop(story: list[str]) -> None:
    released = asyncio.Event()

    async def refuse(start: Start) -> None:
        start.ready()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                story.append("b refused")

    stubborn = ChildSpec(id="b", run=refuse, shutdown=2.0)
    supervisor = Supervisor("root", children=[Puppet("a", story).spec(), stubborn, Puppet("c", story).spec()])
    with capture_logs() as logs:
        async with supervisor:
            pass
    assert now() == 2.0
    assert supervisor.which_children()[1].last == Hung(2.0)
    assert story == ["a came", "c came", "c went", "b refused", "b refused", "a went"]
    assert [(line["event"], line["child"]) for line in logs] == [("child_abandoned", "b")]
    released.set()
    await settle()


@pytest.mark.asyncio
async def test_a_child_that_fails_while_it_stops_is_reported_and_the_others_still_stop(story: list[str]) -> None:
    error = OSError("disk full")

    async def untidy(start: Start) -> None:
        start.ready()
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    supervisor = Supervisor("root", children=[Puppet("a", story).spec(), ChildSpec(id="b", run=untidy)])
    with capture_logs() as logs:
        async with supervisor:
            pass
    assert [child.last for child in supervisor.which_children()] == [Shutdown(), Crashed(error)]
    assert [(line["child"], line["action"]) for line in logs] == [("b", "stop")]
    assert story == ["a came", "a went"]


@pytest.mark.asyncio
async def test_an_error_of_the_body_stops_the_children_and_goes_on(story: list[str]) -> None:
    with pytest.raises(KeyError):
        async with Supervisor("root", children=[Puppet("a", story).spec()]):
            raise KeyError
    assert story == ["a came", "a went"]


@pytest.mark.asyncio
async def test_a_cancelled_body_stops_the_children_and_stays_cancelled(story: list[str]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0), Supervisor("root", children=[Puppet("a", story).spec()]) as tree:
            await tree.wait_stopped()
    assert story == ["a came", "a went"]


@pytest.mark.asyncio
async def test_a_cancellation_while_leaving_waits_for_the_children_and_is_passed_on(story: list[str]) -> None:
    stopping = asyncio.Event()

    async def slow(start: Start) -> None:
        start.ready()
        try:
            await asyncio.Event().wait()
        finally:
            stopping.set()
            await asyncio.sleep(3.0)

    async def enter_and_leave() -> None:
        async with Supervisor("root", children=[Puppet("a", story).spec(), ChildSpec(id="b", run=slow)]):
            pass

    task = asyncio.create_task(enter_and_leave())
    await stopping.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() == 3.0
    assert story == ["a came", "a went"]


# Trees of supervisors


@pytest.mark.asyncio
async def test_an_inner_supervisor_that_gives_up_is_restarted_whole_and_afresh(story: list[str]) -> None:
    a, b, c = (Puppet(name, story) for name in "abc")
    inner = Supervisor("inner", children=[b.spec(), c.spec()], intensity=Intensity(1, per_s=60.0))
    async with Supervisor("outer", children=[a.spec(), inner.child_spec()], draw=lambda: 0.0) as outer:
        for deaths in (1, 2):
            b.crash(ValueError())
            await b.wait_came(deaths + 1)
        await c.wait_came(2)
        assert story[3:] == ["b went", "b came", "b went", "c went", "b came", "c came"]
        last = outer.which_children()[1].last
        assert isinstance(last, Crashed)
        assert isinstance(last.error, RestartIntensityReached)
        b.crash(ValueError())
        await b.wait_came(4)
        assert inner.which_children()[0].restarts == 1
    assert story[-3:] == ["c went", "b went", "a went"]


@pytest.mark.asyncio
async def test_giving_up_climbs_to_the_top_with_every_cause(story: list[str]) -> None:
    a, b, error = Puppet("a", story), Puppet("b", story), ValueError("boom")
    inner = Supervisor("inner", children=[b.spec()], intensity=Intensity(0))
    outer = Supervisor("outer", children=[a.spec(), inner.child_spec()], intensity=Intensity(0))
    with pytest.raises(RestartIntensityReached) as caught:
        async with outer:
            b.crash(error)
            await outer.wait_stopped()
    assert caught.value.supervisor == "outer"
    assert isinstance(caught.value.__cause__, RestartIntensityReached)
    assert caught.value.__cause__.__cause__ is error
    assert story == ["a came", "b came", "b went", "a went"]


@pytest.mark.asyncio
async def test_a_start_that_fails_deep_in_the_tree_fails_the_whole_start(story: list[str]) -> None:
    silent = ChildSpec(id="c", run=never_ready)
    inner = Supervisor("inner", children=[Puppet("b", story).spec(), silent])
    with pytest.raises(StartFailed) as caught:
        async with Supervisor("outer", children=[Puppet("a", story).spec(), inner.child_spec()]):
            story.append("entered")
    assert caught.value.child == "inner"
    assert isinstance(caught.value.__cause__, StartFailed)
    assert caught.value.__cause__.child == "c"
    assert story == ["a came", "b came", "b went", "a went"]


@pytest.mark.asyncio
async def test_a_supervisor_as_a_child_has_the_time_its_children_may_take() -> None:
    children = [ChildSpec(id=name, run=never_ready, start_timeout_s=20.0) for name in "ab"]
    spec = Supervisor("inner", children=children).child_spec(restart="transient")
    assert (spec.id, spec.restart, spec.shutdown) == ("inner", "transient", "infinity")
    assert spec.start_timeout_s > 40.0
    assert Supervisor("empty", children=[]).child_spec().restart == "permanent"


# The supervisor itself


@pytest.mark.asyncio
async def test_a_supervisor_that_stopped_may_start_again_and_begins_afresh(story: list[str]) -> None:
    a = Puppet("a", story)
    supervisor = Supervisor("root", children=[a.spec()], intensity=Intensity(1, per_s=60.0))
    for round_ in (0, 1):
        async with supervisor:
            a.crash(ValueError())
            await a.wait_came(2 * round_ + 2)
            assert supervisor.which_children()[0].restarts == 1
    assert [start.restarts for start in a.starts] == [0, 1, 0, 1]


@pytest.mark.asyncio
async def test_a_running_supervisor_cannot_be_started_again(story: list[str]) -> None:
    async with Supervisor("root", children=[Puppet("a", story).spec()]) as tree:
        with pytest.raises(AlreadyRunning):
            async with tree:
                story.append("entered")
        assert story == ["a came"]


@pytest.mark.asyncio
async def test_a_supervisor_that_was_never_started_has_nothing_to_stop(story: list[str]) -> None:
    supervisor = Supervisor("root", children=[Puppet("a", story).spec()])
    assert supervisor.which_children() == ()
    with pytest.raises(NotRunning):
        await supervisor.stop()
    with pytest.raises(NotRunning):
        await supervisor.wait_stopped()


@pytest.mark.asyncio
async def test_a_supervisor_stopped_before_its_first_step_starts_nothing(story: list[str]) -> None:
    supervisor = Supervisor("root", children=[Puppet("a", story).spec()])

    async def enter() -> None:
        async with supervisor:
            await supervisor.wait_stopped()

    # Both tasks take their first step in one turn of the loop, the tree would take its own in the next.
    await asyncio.gather(enter(), supervisor.stop())
    assert story == []


@pytest.mark.asyncio
async def test_the_log_names_the_class_of_an_error_and_never_its_text(story: list[str]) -> None:
    a = Puppet("a", story)
    with capture_logs() as logs, pytest.raises(RestartIntensityReached):
        async with Supervisor("root", children=[a.spec()], intensity=Intensity(1)) as tree:
            a.crash(ValueError("the user's secret"))
            await a.wait_came(2)
            a.finish()
            await tree.wait_stopped()
    assert "secret" not in str(logs)
    died = {"event": "child_died", "supervisor": "root", "child": "a", "action": "restart"}
    assert logs == [
        died | {"log_level": "warning", "cause": "Crashed", "error": "ValueError", "restarts": 0},
        died | {"log_level": "info", "cause": "Normal", "error": None, "restarts": 1},
        {
            "event": "restart_intensity_reached",
            "log_level": "error",
            "supervisor": "root",
            "child": "a",
        },
    ]


def test_a_child_that_ends_the_process_does_so_and_its_siblings_clean_up() -> None:
    story: list[str] = []

    async def quitting(start: Start) -> None:
        start.ready()
        raise SystemExit(3)

    async def main() -> None:
        async with Supervisor("root", children=[Puppet("a", story).spec(), ChildSpec(id="b", run=quitting)]) as tree:
            await tree.wait_stopped()

    with pytest.raises(SystemExit) as caught:
        asyncio.run(main())
    assert caught.value.code == 3
    assert story == ["a came", "a went"]
