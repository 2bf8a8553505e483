"""The calls on children: child_adm, child_specs, count_children, sup_start_ignore_* and temporary_* of OTP's supervisor_SUITE."""

import asyncio

import pytest
from structlog.testing import capture_logs
from tests.supervisor.puppet import Puppet, now, puppets, settle

from regrow.supervisor import (
    Backoff,
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildCounts,
    ChildInfo,
    ChildNotFound,
    ChildNotRunning,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    Crashed,
    Exit,
    Intensity,
    InvalidOption,
    Normal,
    NotRunning,
    Restart,
    Shutdown,
    Start,
    StartFailed,
    Supervisor,
    SupervisorError,
    SupervisorStopped,
)

pytestmark = pytest.mark.asyncio


def root(*children: Puppet) -> Supervisor:
    return Supervisor("root", children=[child.spec() for child in children], draw=lambda: 0.5)


async def test_a_started_child_is_the_last_one_and_stops_first(story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with root(a) as tree:
        await tree.start_child(b.spec())
        assert [child.id for child in tree.which_children()] == ["a", "b"]
    assert story == ["a came", "b came", "b went", "a went"]


async def test_start_child_returns_when_the_child_is_ready() -> None:
    async def slow(start: Start) -> None:
        await asyncio.sleep(3.0)
        start.ready()
        await asyncio.Event().wait()

    async with root() as tree:
        child = await tree.start_child(ChildSpec(id="a", run=slow))
        assert now() == 3.0
        assert (child.name, child.exit) == ("a", None)


async def test_a_started_child_is_restarted_like_any_other(story: list[str]) -> None:
    a = Puppet("a", story)
    async with root() as tree:
        await tree.start_child(a.spec())
        a.crash(ValueError())
        await a.wait_came(2)


async def test_a_child_that_runs_cannot_be_started_again(story: list[str]) -> None:
    a = Puppet("a", story)
    async with root(a) as tree:
        with pytest.raises(ChildAlreadyStarted, match="already runs a child 'a'; give the new one another id"):
            await tree.start_child(a.spec())


async def test_a_child_that_is_stopped_is_restarted_and_not_started(story: list[str]) -> None:
    a = Puppet("a", story)
    async with root(a) as tree:
        await tree.terminate_child("a")
        with pytest.raises(ChildAlreadyPresent, match="restart it, or delete it first"):
            await tree.start_child(a.spec())


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_a_child_that_fails_to_start_is_not_added(restart: Restart, story: list[str]) -> None:
    a = Puppet("a", story)
    a.failing = True
    async with root() as tree:
        with pytest.raises(StartFailed, match="child 'a' did not start"):
            await tree.start_child(a.spec(restart))
        await settle()
        assert tree.which_children() == ()
    assert len(a.starts) == 1


async def test_a_child_that_finishes_while_it_starts_is_listed_as_stopped_and_a_temporary_one_forgotten() -> None:
    async def nothing_to_do(start: Start) -> None:
        pass

    async with root() as tree:
        for restart in ("transient", "temporary"):
            child = await tree.start_child(ChildSpec(id=restart, run=nothing_to_do, restart=restart))
            assert child.exit == Normal()
        await settle()
        assert tree.which_children() == (ChildInfo("transient", "stopped", 0, Normal()),)


async def test_a_terminated_child_stays_listed_as_stopped_and_is_not_restarted(story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with root(a, b) as tree:
        await tree.terminate_child("a")
        assert story == ["a came", "b came", "a went"]
        assert tree.which_children()[0] == ChildInfo("a", "stopped", 0, Shutdown())
        await tree.terminate_child("a")
        await settle()
        assert len(a.starts) == 1


async def test_a_terminated_temporary_child_is_forgotten(story: list[str]) -> None:
    a = Puppet("a", story)
    async with Supervisor("root", children=[a.spec("temporary")]) as tree:
        await tree.terminate_child("a")
        assert tree.which_children() == ()
        await tree.start_child(a.spec("temporary"))


async def test_terminating_concerns_no_sibling_whatever_the_strategy(story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with Supervisor("root", strategy="one_for_all", children=[a.spec(), b.spec()]) as tree:
        await tree.terminate_child("a")
        assert story == ["a came", "b came", "a went"]


async def test_a_child_that_waits_for_its_restart_can_be_terminated_and_does_not_come_back(story: list[str]) -> None:
    a = Puppet("a", story)
    async with Supervisor("root", children=[a.spec(backoff=Backoff(first_s=5.0))], draw=lambda: 0.5) as tree:
        a.crash(ValueError())
        await settle()
        await tree.terminate_child("a")
        await asyncio.sleep(20.0)
        assert tree.which_children()[0].state == "stopped"
    assert len(a.starts) == 1


async def test_a_stopped_child_can_be_restarted_by_hand(story: list[str]) -> None:
    a = Puppet("a", story)
    async with root(a) as tree:
        await tree.terminate_child("a")
        child = await tree.restart_child("a")
        assert child is tree.child("a")
        assert a.starts[1].cause == Shutdown()
        a.crash(ValueError())
        await a.wait_came(3)


async def test_a_restart_by_hand_that_fails_leaves_the_child_stopped(story: list[str]) -> None:
    a = Puppet("a", story)
    async with root(a) as tree:
        await tree.terminate_child("a")
        a.failing = True
        with pytest.raises(StartFailed):
            await tree.restart_child("a")
        await settle()
        (info,) = tree.which_children()
        assert (info.state, type(info.last), len(a.starts)) == ("stopped", Crashed, 2)


async def test_a_deleted_child_is_forgotten_and_its_id_free(story: list[str]) -> None:
    a = Puppet("a", story)
    async with root(a) as tree:
        await tree.terminate_child("a")
        await tree.delete_child("a")
        assert tree.which_children() == ()
        await tree.start_child(a.spec())


async def test_only_stopped_children_are_restarted_or_deleted(story: list[str]) -> None:
    a, b = Puppet("a", story), Puppet("b", story)
    children = [a.spec(), b.spec(backoff=Backoff(first_s=5.0))]
    async with Supervisor("root", children=children, draw=lambda: 0.5) as tree:
        b.crash(ValueError())
        await settle()
        for call in (tree.restart_child, tree.delete_child):
            with pytest.raises(ChildRunning, match="child 'a' of supervisor 'root' runs; terminate it first"):
                await call("a")
            with pytest.raises(ChildRestarting, match="is about to be restarted; terminate it first"):
                await call("b")
        with pytest.raises(ChildAlreadyPresent):
            await tree.start_child(b.spec())


async def test_a_child_that_is_not_there_is_said_to_be_not_there() -> None:
    async with root() as tree:
        for call in (tree.terminate_child, tree.restart_child, tree.delete_child):
            with pytest.raises(ChildNotFound, match="has no child 'x'; which_children"):
                await call("x")
        with pytest.raises(ChildNotFound):
            tree.get_childspec("x")
        with pytest.raises(ChildNotFound):
            tree.child("x")


async def test_the_spec_of_a_child_can_be_read(story: list[str]) -> None:
    a = Puppet("a", story)
    spec = a.spec()
    async with Supervisor("root", children=[spec]) as tree:
        assert tree.get_childspec("a") is spec


async def test_children_are_counted_by_type_and_those_alive(story: list[str]) -> None:
    a, b = puppets("ab", story)
    inner = Supervisor("inner", children=[])
    async with Supervisor("root", children=[a.spec(), b.spec("transient"), inner.child_spec()]) as tree:
        b.finish()
        await settle()
        assert tree.count_children() == ChildCounts(specs=3, active=2, supervisors=1, workers=2)
        await tree.terminate_child("inner")
        assert tree.count_children() == ChildCounts(specs=3, active=1, supervisors=1, workers=2)
    assert Supervisor("new", children=[]).count_children() == ChildCounts(0, 0, 0, 0)


async def test_a_child_is_given_as_its_incarnation_of_now(story: list[str]) -> None:
    a, exits = Puppet("a", story), list[Exit]()
    async with root(a) as tree:
        first = tree.child("a")
        assert first is a.starts[0].me
        first.watch(exits.append)
        a.finish()
        await a.wait_came(2)
        assert (first.exit, exits) == (Normal(), [Normal()])
        first.watch(exits.append)
        assert exits == [Normal(), Normal()]
        assert tree.child("a") is a.starts[1].me
        await tree.terminate_child("a")
        with pytest.raises(ChildNotRunning, match="does not run now"):
            tree.child("a")


async def test_a_child_that_is_ended_from_outside_dies_of_that_cause_and_is_restarted(story: list[str]) -> None:
    a, cause = Puppet("a", story), Crashed(ValueError("linked"))
    async with root(a) as tree:
        tree.child("a").end(cause)
        await a.wait_came(2)
        assert a.starts[1].cause == cause


async def test_a_watcher_that_was_taken_back_is_not_called(story: list[str]) -> None:
    a, exits = Puppet("a", story), list[Exit]()
    async with root(a) as tree:
        child = tree.child("a")
        child.unwatch(exits.append)
        child.watch(exits.append)
        child.unwatch(exits.append)
    assert (exits, child.exit) == ([], Shutdown())


async def test_calls_are_done_one_at_a_time_and_in_order(story: list[str]) -> None:
    async def slow(start: Start) -> None:
        await asyncio.sleep(3.0)
        story.append("slow ready")
        start.ready()
        await asyncio.Event().wait()

    b = Puppet("b", story)
    async with root() as tree:
        await asyncio.gather(
            tree.start_child(ChildSpec(id="slow", run=slow)), tree.start_child(b.spec()), tree.terminate_child("b")
        )
        assert story == ["slow ready", "b came", "b went"]


async def test_a_death_while_a_child_starts_is_handled_once_it_has(story: list[str]) -> None:
    a = Puppet("a", story)

    async def slow(start: Start) -> None:
        a.crash(ValueError())
        await asyncio.sleep(1.0)
        story.append("slow ready")
        start.ready()
        await asyncio.Event().wait()

    async with root(a) as tree:
        await tree.start_child(ChildSpec(id="slow", run=slow))
        await a.wait_came(2)
        assert story == ["a came", "a went", "slow ready", "a came"]


async def test_a_caller_that_is_cancelled_does_not_undo_what_has_begun(story: list[str]) -> None:
    async def slow(start: Start) -> None:
        await asyncio.sleep(3.0)
        start.ready()
        await asyncio.Event().wait()

    b = Puppet("b", story)
    async with root() as tree:
        begun = asyncio.create_task(tree.start_child(ChildSpec(id="slow", run=slow)))
        waiting = asyncio.create_task(tree.start_child(b.spec()))
        await settle()
        begun.cancel()
        waiting.cancel()
        await asyncio.sleep(5.0)
        assert [(child.id, child.state) for child in tree.which_children()] == [("slow", "running")]


async def test_who_waits_for_a_call_is_told_when_the_supervisor_stops() -> None:
    async def never_ready(start: Start) -> None:
        await asyncio.Event().wait()

    async with root() as tree:
        calls = [
            asyncio.create_task(tree.start_child(ChildSpec(id="a", run=never_ready))),
            asyncio.create_task(tree.terminate_child("a")),
        ]
        await settle()
        await tree.stop()
        for call in calls:
            with pytest.raises(SupervisorStopped):
                await call
        with pytest.raises(SupervisorStopped, match="start it again before asking it"):
            await tree.delete_child("a")


async def test_a_supervisor_that_was_never_started_can_do_nothing_for_children(story: list[str]) -> None:
    a = Puppet("a", story)
    with pytest.raises(NotRunning):
        await root().start_child(a.spec())
    with pytest.raises(NotRunning):
        await root().restart_child("a")


async def test_a_child_may_terminate_itself(story: list[str]) -> None:
    tree = Supervisor("root", children=[])

    async def weary(start: Start) -> None:
        start.ready()
        await asyncio.sleep(1.0)
        await tree.terminate_child("weary")

    async with tree:
        await tree.start_child(ChildSpec(id="weary", run=weary))
        await asyncio.sleep(2.0)
        assert tree.which_children() == (ChildInfo("weary", "stopped", 0, Shutdown()),)


async def test_what_is_refused_changes_nothing_and_is_a_supervisor_error(story: list[str]) -> None:
    a = Puppet("a", story)
    async with root(a) as tree:
        with pytest.raises(SupervisorError) as caught:
            await tree.restart_child("a")
        assert isinstance(caught.value, ChildRunning)
        assert (caught.value.supervisor, caught.value.child) == ("root", "a")
        assert story == ["a came"]


async def test_a_rule_that_raises_ends_the_supervisor_with_that_error(story: list[str]) -> None:
    def confused(cause: Exit) -> Backoff:
        raise LookupError("no such backoff")

    a, b = puppets("ab", story)
    with pytest.raises(LookupError):
        async with Supervisor("root", children=[a.spec(backoff=confused), b.spec()]) as tree:
            a.crash(ValueError())
            await tree.wait_stopped()
    assert story == ["a came", "b came", "a went", "b went"]


async def test_a_rule_that_raises_while_all_are_stopped_stops_nobody_from_going(story: list[str]) -> None:
    def confused(cause: Exit) -> Restart:
        raise LookupError("no such type")

    a, b = puppets("ab", story)
    with capture_logs() as logs:
        async with Supervisor("root", children=[a.spec(), b.spec(confused)]):
            pass
    assert story == ["a came", "b came", "b went", "a went"]
    assert [(line["event"], line["error"]) for line in logs] == [("restart_rule_raised", "LookupError")]


async def test_a_rule_that_raises_in_a_call_ends_the_supervisor(story: list[str]) -> None:
    def confused(cause: Exit) -> Restart:
        raise LookupError("no such type")

    a, b = puppets("ab", story)
    with pytest.raises(LookupError):
        async with Supervisor("root", children=[a.spec(), b.spec(confused)]) as tree:
            await tree.terminate_child("b")
            await tree.wait_stopped()
    assert story == ["a came", "b came", "b went", "a went"]


async def test_restart_and_backoff_may_depend_on_the_cause(story: list[str]) -> None:
    def restart(cause: Exit) -> Restart:
        return "temporary" if cause == Crashed(fatal) else "permanent"

    def backoff(cause: Exit) -> Backoff:
        return Backoff(first_s=8.0 if isinstance(cause, Crashed) else 2.0)

    a, fatal = Puppet("a", story), ValueError()
    children = [a.spec(restart, backoff)]
    async with Supervisor("root", children=children, draw=lambda: 0.5, intensity=Intensity(9)) as tree:
        a.finish()
        await a.wait_came(2)
        assert now() == 1.0
        a.crash(KeyError())
        await a.wait_came(3)
        assert now() == 6.0  # the second in a row, at most 10 s
        a.crash(fatal)
        await settle()
        assert tree.which_children() == ()


async def test_a_significant_child_needs_a_supervisor_that_may_end_by_itself(story: list[str]) -> None:
    a = Puppet("a", story)
    with pytest.raises(InvalidOption, match="say 'any_significant' or 'all_significant' there"):
        Supervisor("root", children=[a.spec("transient", significant=True)])
    async with root() as tree:
        with pytest.raises(InvalidOption):
            await tree.start_child(a.spec("transient", significant=True))
    with pytest.raises(InvalidOption, match="a significant child must be transient or temporary"):
        a.spec("permanent", significant=True)
