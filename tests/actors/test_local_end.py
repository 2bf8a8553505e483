"""The end of local actors, as monitors, links and groups see it."""

import asyncio
from typing import Any

import pytest
from tests.actors.local_probe import AT_ONCE, Do, DoAwaiting, Hold, Probe, begun, fail, held

from regrow.actors import ActorStopped, AskFailed, LocalPolicy, LocalSystem, Message, command
from regrow.supervisor import (
    Crashed,
    Exit,
    Intensity,
    Killed,
    Normal,
    Shutdown,
    kill,
    link,
    monitor,
    trap_exits,
    unlink,
)

pytestmark = pytest.mark.asyncio


def nothing(actor: Probe, message: Message[Any]) -> None: ...


async def test_references_to_one_actor_are_equal_and_to_two_are_not() -> None:
    async with LocalSystem("demo") as system:
        a, b = system.spawn(Probe, "a"), system.spawn(Probe, "b")
        assert a == system.ref(Probe, "a")
        assert {a: 1}[system.ref(Probe, "a")] == 1
        assert a != b
        await a.stop()
        assert a != system.spawn(Probe, "a")


async def test_a_monitor_tells_of_a_stop_once_the_last_handler_has_ended() -> None:
    async with LocalSystem("demo") as system:
        probe = system.spawn(Probe, "a")
        watching, go_on = monitor(probe), await held(probe)
        stopping = asyncio.create_task(probe.stop())
        await begun(stopping)
        assert (probe.exit, watching.down) == (None, None)
        go_on.set()
        await stopping
        assert (probe.exit, watching.down) == (Shutdown(), Shutdown())
        assert await monitor(probe).wait_down() == Shutdown()


async def test_a_restart_is_no_death_and_one_failure_too_many_is() -> None:
    async with LocalSystem("demo") as system:
        policy = LocalPolicy(backoff=AT_ONCE.backoff, intensity=Intensity(1, per_s=60.0))
        probe = system.spawn(Probe, "a", policy=policy)
        watching = monitor(probe)
        for died in (False, True):
            with pytest.raises(AskFailed):
                await probe.ask(DoAwaiting(act=fail))
            assert (watching.down is not None) is died
        assert isinstance(watching.down, Crashed)
        assert isinstance(watching.down.error, ValueError)


async def test_a_monitor_that_was_taken_back_tells_nothing() -> None:
    async with LocalSystem("demo") as system:
        probe, told = system.spawn(Probe, "a"), list[Exit]()
        watching = monitor(probe, told.append)
        watching.demonitor()
        await probe.stop()
        assert told == []


async def test_leaving_the_system_is_the_end_of_all() -> None:
    async with LocalSystem("demo") as system:
        watching = monitor(system.spawn(Probe, "a"))
    assert watching.down == Shutdown()


async def test_linked_actors_die_together_and_whoever_asked_is_told() -> None:
    async with LocalSystem("demo") as system:
        a, b, c = (system.spawn(Probe, key) for key in "abc")
        link(a, b)
        link(b, c)
        unlink(b, c)
        await held(b)
        asking = asyncio.create_task(b.ask(Do(act=nothing)))
        await begun(asking)
        watching = monitor(b)
        await a.stop()
        with pytest.raises(ActorStopped, match="probe/b is stopped: it was told to end: stopped when asked"):
            await asking
        assert await watching.wait_down() == Shutdown()
        assert await c.ask(Do(act=nothing)) is None


async def test_one_that_traps_exits_is_told_instead() -> None:
    async with LocalSystem("demo") as system:
        a, b = system.spawn(Probe, "a"), system.spawn(Probe, "b")
        link(a, b)
        with trap_exits(b) as exits:
            await a.stop()
            signal = await anext(exits)
        assert (signal.source, signal.cause) == (a, Shutdown())
        assert b.exit is None


async def test_a_kill_ends_a_handler_and_its_asker_s_wait() -> None:
    async with LocalSystem("demo") as system:
        probe, other = system.spawn(Probe, "a"), system.spawn(Probe, "b")
        await held(probe)
        watching = monitor(probe)
        kill(probe)
        kill(probe)
        assert await watching.wait_down() == Killed(9)
        with pytest.raises(ActorStopped):
            probe.tell(Do(act=nothing))
        assert await other.ask(DoAwaiting(act=nothing)) is None


class Stubborn(Probe):
    @command
    async def hold(self, msg: Hold) -> None:
        msg.started.set()
        try:
            await msg.until.wait()
        except asyncio.CancelledError:
            await msg.until.wait()


async def test_a_cancellation_that_a_handler_put_up_with_is_not_left_to_the_next() -> None:
    async with LocalSystem("demo") as system:
        stubborn, other = system.spawn(Stubborn, "a"), system.spawn(Probe, "b")
        go_on = await held(stubborn)
        kill(stubborn)
        stopping = asyncio.create_task(stubborn.stop(grace_s=0))
        await begun(stopping)
        await asyncio.sleep(0)
        assert stubborn.exit is None
        go_on.set()
        assert await monitor(stubborn).wait_down() == Killed(9)
        await stopping

        def cancelling(actor: Probe, message: Message[Any]) -> int:
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()

        assert await other.ask(DoAwaiting(act=cancelling)) == 0


@pytest.mark.parametrize("kind", [Do, DoAwaiting])
async def test_one_that_ends_itself_goes_on_to_the_end_of_its_handler(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        probe = system.spawn(Probe, "a")

        def end(actor: Probe, message: Message[Any]) -> str:
            probe.end(Normal())
            return "done"

        assert await probe.ask(kind(act=end)) == "done"
        assert await monitor(probe).wait_down() == Normal()


async def test_a_message_to_a_group_reaches_each_member_as_often_as_it_has_joined() -> None:
    async with LocalSystem("demo") as system:
        a, b, c = (system.spawn(Probe, key) for key in "abc")
        seen: list[str] = []
        system.groups.join("workers", a, b, c, a)
        assert system.groups.leave("workers", system.ref(Probe, "b"))
        assert system.tell_all("workers", Do(act=lambda actor, _: seen.append(actor.key))) == 3
        for each in (a, b, c):
            await each.ask(Do(act=nothing))
        assert sorted(seen) == ["a", "a", "c"]
        assert system.tell_all("nobody", Do(act=nothing)) == 0


async def test_a_member_without_room_is_passed_over_and_counted() -> None:
    async with LocalSystem("demo") as system:
        full, other = system.spawn(Probe, "full", mailbox_max=1), system.spawn(Probe, "other")
        go_on = await held(full)
        full.tell(Do(act=nothing))
        system.groups.join("workers", full, other)
        assert system.tell_all("workers", Do(act=nothing)) == 1
        assert system.dead_letters().counts["group"] == 1
        go_on.set()


async def test_the_dead_are_in_no_group() -> None:
    async with LocalSystem("demo") as system:
        a, b = system.spawn(Probe, "a"), system.spawn(Probe, "b")
        system.groups.join("workers", a, b)
        await a.stop()
        assert system.groups.members("workers") == (b,)
    assert system.groups.which_groups() == ()
