"""Timers of local actors: one for each name, none that outlives its cancellation, and periods that never pile up."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.actors.local_probe import AT_ONCE, Do, DoAwaiting, Hold, Probe, begun, fail, held, until

from regrow.actors import DefinitionError, LocalRef, LocalSystem, Message, Overflow, Start
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


async def held_between(probe: LocalRef, before: Do, *after: Do) -> asyncio.Event:
    """The actor in a handler, with one message handled before it, and behind it the others and all timers that are due."""
    hold = Hold(started=asyncio.Event(), until=asyncio.Event())
    probe.suspend()
    for message in (before, hold, *after):
        probe.tell(message)
    probe.resume()
    await hold.started.wait()
    await all_due()
    return hold.until


@both_ways
async def test_the_message_of_a_timer_comes_when_it_is_due(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()

        def several(actor: Probe) -> None:
            actor.set_timer("a", ringing(rang, "replaced", kind), after_s=0.0)
            actor.set_timer("a", ringing(rang, "much later", kind), after_s=3_600.0)
            actor.set_timer("b", ringing(rang, "past", kind), at=datetime(2020, 1, 1, tzinfo=UTC))
            actor.set_timer("c", ringing(rang, "cancelled", kind), after_s=0.0)
            actor.set_timer("d", ringing(rang, "at once", kind), after_s=0.0)
            actor.cancel_timer("c")

        await probe.ask(doing(several))
        await until(lambda: len(rang) == 2)
        await all_due()
        assert await probe.ask(doing(lambda _: sorted(rang))) == ["at once", "past"]


async def test_a_message_of_a_replaced_or_cancelled_timer_that_waits_already_is_not_handled() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()

        def three(actor: Probe) -> None:
            for name in ("replaced", "cancelled", "kept"):
                actor.set_timer(name, ringing(rang, name), after_s=0.0)

        def change(actor: Probe) -> None:
            actor.set_timer("replaced", ringing(rang, "new"), after_s=0.0)
            actor.cancel_timer("cancelled")
            actor.cancel_timer("there is none")

        go_on = await held_between(probe, doing(three), doing(change))
        go_on.set()
        await until(lambda: len(rang) == 2)
        assert await probe.ask(doing(lambda _: list(rang))) == ["kept", "new"]
        assert sum(system.dead_letters().counts.values()) == 0


@both_ways
async def test_a_period_begins_when_the_message_before_has_been_taken_out(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()
        await timed(probe, ringing(rang, "tick", kind), every_s=0.001)
        await until(lambda: len(rang) >= 3)
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


def two(rang: list[str]) -> Do:
    """Sets a timer and a period, both due at once."""

    def act(actor: Probe) -> None:
        actor.set_timer("once", ringing(rang, "once"), after_s=0.0)
        actor.set_timer("every", ringing(rang, "every"), after_s=0.0, every_s=0.001)

    return doing(act)


async def some_time(system: LocalSystem) -> None:
    """Returns when a period of 1 ms has come three times."""
    clock = list[str]()
    await timed(system.spawn(Probe, "clock"), ringing(clock, "tick"), every_s=0.001)
    await until(lambda: len(clock) >= 3)


async def test_a_failure_cancels_all_also_what_waits_already() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a", policy=AT_ONCE), list[str]()
        go_on = await held_between(probe, two(rang), Do(act=fail))
        go_on.set()
        await until(lambda: probe.restarts == 1)
        await some_time(system)
        assert await probe.ask(doing(lambda _: list(rang))) == []
        assert sum(system.dead_letters().counts.values()) == 0


async def test_a_stop_cancels_all() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()
        go_on = await held_between(probe, two(rang))
        stopping = asyncio.create_task(probe.stop())
        await begun(stopping)
        go_on.set()
        await stopping
        await some_time(system)
        assert rang == []
        assert sum(system.dead_letters().counts.values()) == 0


async def test_an_actor_that_is_stopped_sets_no_timer() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a"), list[str]()

        def stop_and_set(actor: Probe) -> None:
            probe.end(Shutdown())
            actor.set_timer("late", ringing(rang, "late"), after_s=0.0)

        await probe.ask(doing(stop_and_set))
        await some_time(system)
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

        def fill(actor: Probe) -> None:
            actor.set_timer("t", ringing(rang, "tick"), after_s=0.0)
            probe.tell(ringing(rang, "1"))
            probe.tell(ringing(rang, "2"))
            probe.suspend()

        await probe.ask(doing(fill))
        await all_due()
        probe.resume()
        await until(lambda: len(rang) == 2)
        assert rang == left
        assert system.dead_letters().counts[reason] == 1


async def test_a_cancelled_timer_that_makes_room_is_no_dead_letter() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a", mailbox_max=2, overflow="drop_oldest"), list[str]()
        cell = probe._cell  # pyright: ignore[reportPrivateUsage]

        def set_and_wait(actor: Probe) -> None:
            actor.set_timer("t", ringing(rang, "tick"), after_s=0.0)
            probe.suspend()

        await probe.ask(doing(set_and_wait))
        await all_due()
        probe.tell(ringing(rang, "1"))
        cell.life.cancel_timer("t")
        probe.tell(ringing(rang, "2"))
        probe.resume()
        await until(lambda: rang == ["1", "2"])
        assert sum(system.dead_letters().counts.values()) == 0


async def test_a_period_goes_on_when_one_message_of_it_found_no_room() -> None:
    async with LocalSystem("demo") as system:
        probe, rang = system.spawn(Probe, "a", mailbox_max=1), list[str]()

        def fill(actor: Probe) -> None:
            actor.set_timer("t", ringing(rang, "tick"), every_s=0.001)
            probe.tell(doing(lambda _: None))
            probe.suspend()

        await probe.ask(doing(fill))
        await until(lambda: system.dead_letters().counts["timer"] > 1)
        assert rang == []
        probe.resume()
        await until(lambda: len(rang) >= 2)


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
        refused(ValueError, known, every_s=float("inf"))
        refused(DefinitionError, Unknown(), after_s=1.0)
        said = [await probe.ask(each) for each in told]
        assert [each.split(":")[0] for each in said] == [
            "a timer is due either after_s seconds from now or at a time",
            "a timer is due either after_s seconds from now or at a time",
            "the time 2020-01-01 00",
            "every_s must be more than 0 seconds, and finite, not 0.0",
            "every_s must be more than 0 seconds, and finite, not -1.0",
            "every_s must be more than 0 seconds, and finite, not inf",
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
