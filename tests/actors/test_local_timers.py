"""Timers of local actors: one for each name, none that outlives its cancellation, and periods that never pile up."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.actors.local_probe import AT_ONCE, Do, DoAwaiting, Hold, Probe, begun, fail, held, until

from regrow.actors import AskFailed, DefinitionError, LocalRef, LocalSystem, Message, Overflow, Start
from regrow.supervisor import Shutdown

pytestmark = pytest.mark.asyncio

both_ways = pytest.mark.parametrize("kind", [Do, DoAwaiting])


class Unknown(Message[None]):
    pass


def doing(act: Callable[[Probe], object], kind: type[Do] = Do) -> Do:
    return kind(act=lambda actor, _: act(actor))


def ringing(ringer: list[str], name: str, kind: type[Do] = Do) -> Do:
    return doing(lambda _: ringer.append(name), kind)


async def all_due() -> None:
    """Returns once every timer that is due has been posted: the loop calls those that are due earlier first."""
    loop = asyncio.get_running_loop()
    last: asyncio.Future[None] = loop.create_future()
    loop.call_at(loop.time(), last.set_result, None)
    await last


async def timed(probe: LocalRef, *messages: Do, **options: Any) -> None:
    """Sets timers named 0, 1 ... that are due at once when nothing else is said."""

    def act(actor: Probe) -> None:
        for number, message in enumerate(messages):
            actor.set_timer(str(number), message, **(options or {"after_s": 0.0}))

    await probe.ask(doing(act))


@both_ways
async def test_the_message_of_a_timer_comes_when_it_is_due(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()
        await timed(probe, ringing(rang, "at", kind), at=datetime(2020, 1, 1, tzinfo=UTC))
        await timed(probe, ringing(rang, "later", kind), after_s=3_600.0)
        await timed(probe, *(ringing(rang, str(number), kind) for number in range(3)))
        await until(lambda: len(rang) == 3)
        assert rang == ["0", "1", "2"]  # "at" and "later" were replaced: they had the name 0
        await timed(probe, ringing(rang, "at", kind), at=datetime(2020, 1, 1, tzinfo=UTC))
        await until(lambda: len(rang) == 4)
        assert rang[3] == "at"


async def test_a_message_of_a_replaced_or_cancelled_timer_that_waits_already_is_not_handled() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()
        await timed(probe, ringing(rang, "replaced"), ringing(rang, "cancelled"), ringing(rang, "kept"))
        probe.suspend()
        probe.tell(doing(lambda actor: actor.set_timer("0", ringing(rang, "new"), after_s=0.0)))
        probe.tell(doing(lambda actor: actor.cancel_timer("1")))
        probe.tell(doing(lambda actor: actor.cancel_timer("there is none")))
        await all_due()
        probe.resume()
        await until(lambda: len(rang) == 2)
        assert await probe.ask(doing(lambda _: list(rang))) == ["kept", "new"]
        assert sum(system.dead_letters().counts.values()) == 0


@both_ways
async def test_a_period_begins_when_the_message_before_has_been_taken_out(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()
        await timed(probe, ringing(rang, "tick", kind), every_s=0.001)
        await until(lambda: len(rang) == 3)
        go_on = await held(probe)
        before = len(rang)
        other = list[str]()
        await timed(system.spawn(Probe, "b"), ringing(other, "clock"), every_s=0.001)
        await until(lambda: len(other) == 5)
        probe.tell(doing(lambda actor: actor.cancel_timer("0")))
        go_on.set()
        await probe.ask(DoAwaiting(act=lambda actor, _: None))
        assert len(rang) <= before + 1


async def test_a_period_may_begin_with_another_wait() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()
        await timed(probe, ringing(rang, "tick"), after_s=0.0, every_s=3_600.0)
        await until(lambda: bool(rang))
        await timed(system.spawn(Probe, "b"), ringing(rang, "soon"), after_s=3_600.0, every_s=0.001)
        await all_due()
        assert rang == ["tick"]


async def test_a_failure_cancels_all_also_what_waits_already() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a", policy=AT_ONCE), list[str]()
        await timed(probe, ringing(rang, "waiting"))
        await timed(probe, ringing(rang, "other"), ringing(rang, "every"), every_s=0.001)
        probe.suspend()
        failing = asyncio.create_task(probe.ask(Do(act=fail)))
        await begun(failing)
        await all_due()
        probe.resume()
        with pytest.raises(AskFailed):
            await failing
        clock = list[str]()
        await timed(system.spawn(Probe, "b"), ringing(clock, "clock"), every_s=0.001)
        await until(lambda: len(clock) == 3)
        assert await probe.ask(doing(lambda _: list(rang))) == []
        assert sum(system.dead_letters().counts.values()) == 0


async def test_a_stop_cancels_all_and_one_that_is_stopped_sets_none() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()
        await timed(probe, ringing(rang, "tick"), every_s=0.001)
        go_on = await held(probe)
        await all_due()

        def set_another(actor: Probe) -> None:
            actor.set_timer("late", ringing(rang, "late"), after_s=0.0)

        await begun(asyncio.create_task(probe.stop()))
        go_on.set()
        other = system.spawn(Probe, "b")

        def stop_and_set(actor: Probe) -> None:
            system.ref(Probe, "b")._cell.end("it was told so", Shutdown())  # pyright: ignore[reportPrivateUsage]
            set_another(actor)

        await other.ask(doing(stop_and_set))
        clock = list[str]()
        await timed(system.spawn(Probe, "c"), ringing(clock, "clock"), every_s=0.001)
        await until(lambda: len(clock) == 3)
        assert rang == []


@pytest.mark.parametrize(
    ("overflow", "reason", "left"),
    [
        ("fail", "timer", ["1", "2"]),
        ("wait", "timer", ["1", "2"]),
        ("drop_newest", "drop_newest", ["1", "2"]),
        ("drop_oldest", "drop_oldest", ["2", "tick"]),
    ],
)
async def test_in_a_full_mailbox_the_overflow_decides(overflow: Overflow, reason: Any, left: list[str]) -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a", mailbox_max=2, overflow=overflow), list[str]()
        probe.suspend()
        probe.tell(doing(lambda actor: actor.set_timer("t", ringing(rang, "tick"), after_s=0.0)))
        hold = Hold(started=asyncio.Event(), until=asyncio.Event())
        probe.tell(hold)
        probe.resume()
        await hold.started.wait()
        probe.tell(ringing(rang, "1"))
        probe.tell(ringing(rang, "2"))
        await all_due()
        hold.until.set()
        await until(lambda: len(rang) == 2)
        assert rang == left
        assert system.dead_letters().counts[reason] == 1


async def test_a_cancelled_timer_that_makes_room_is_no_dead_letter() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a", mailbox_max=2, overflow="drop_oldest"), list[str]()
        cell = probe._cell  # pyright: ignore[reportPrivateUsage]
        await timed(probe, ringing(rang, "tick"))
        probe.suspend()
        await all_due()
        probe.tell(ringing(rang, "1"))
        cell.life.cancel_timer("0")
        probe.tell(ringing(rang, "2"))
        probe.resume()
        await until(lambda: rang == ["1", "2"])
        assert sum(system.dead_letters().counts.values()) == 0


async def test_a_period_goes_on_when_one_message_of_it_found_no_room() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a", mailbox_max=1), list[str]()
        await timed(probe, ringing(rang, "tick"), every_s=0.001)
        go_on = await held(probe)
        probe.tell(doing(lambda _: None))
        await until(lambda: system.dead_letters().counts["timer"] > 1)
        go_on.set()
        before = len(rang)
        await until(lambda: len(rang) >= before + 2)


async def test_the_message_of_a_timer_may_be_put_aside() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()

        def ring(actor: Probe, message: Message[Any]) -> None:
            if not actor.open:
                rang.append("aside")
                actor.stash(message)
            rang.append("rang")

        def unlock(actor: Probe) -> None:
            actor.open = True
            actor.unstash_all()

        await timed(probe, Do(act=ring))
        await until(lambda: bool(rang))
        await probe.ask(doing(unlock))
        assert await probe.ask(doing(lambda _: list(rang))) == ["aside", "rang"]


async def test_a_timer_that_could_not_be_is_refused() -> None:
    async with LocalSystem("demo") as system:
        probe = system.spawn(Probe, "a", policy=AT_ONCE)

        def refused(error: type[Exception], message: Message[Any], **options: Any) -> None:
            def act(actor: Probe) -> str:
                with pytest.raises(error) as caught:
                    actor.set_timer("t", message, **options)
                return str(caught.value)

            told.append(doing(act))

        told: list[Do] = []
        known = doing(lambda _: None)
        refused(ValueError, known)
        refused(ValueError, known, after_s=1.0, at=datetime(2020, 1, 1, tzinfo=UTC))
        refused(ValueError, known, at=datetime(2020, 1, 1))  # that is the point
        refused(ValueError, known, every_s=0.0)
        refused(ValueError, known, after_s=1.0, every_s=-1.0)
        refused(DefinitionError, Unknown(), after_s=1.0)
        said = [await probe.ask(each) for each in told]
        assert [each.split(":")[0] for each in said] == [
            "a timer is due either after_s seconds from now or at a time",
            "a timer is due either after_s seconds from now or at a time",
            "the time 2020-01-01 00",
            "every_s must be more than 0 seconds, and finite, not 0.0",
            "every_s must be more than 0 seconds, and finite, not -1.0",
            "Probe has no handler for Unknown; it accepts Do, DoAwaiting, Hold",
        ]
        assert probe.restarts == 0


async def test_an_incarnation_may_set_its_timers_when_it_begins() -> None:
    rang: list[str] = []

    class Clock(Probe):
        async def on_start(self, start: Start) -> None:
            self.set_timer("tick", ringing(rang, f"after {start.restarts} restarts"), after_s=0.0)

    async with LocalSystem("demo") as system:
        clock = system.spawn(Clock, "a", policy=AT_ONCE)
        await until(lambda: rang == ["after 0 restarts"])
        clock.tell(Do(act=fail))
        await until(lambda: rang == ["after 0 restarts", "after 1 restarts"])
