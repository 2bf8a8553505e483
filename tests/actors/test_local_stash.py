"""The stash of local actors: messages put aside come back in their order, and nobody who asked is forgotten."""

import asyncio
from typing import Any

import pytest
from tests.actors.local_probe import AT_ONCE, Do, DoAwaiting, Probe, begun, fail, until

from regrow.actors import ActorStopped, AskFailed, AskTimeout, LocalSystem, Message, Start, StashFull
from regrow.bus import MailboxFull
from regrow.supervisor import Shutdown, monitor

pytestmark = pytest.mark.asyncio

STOPPED = Shutdown()

both_ways = pytest.mark.parametrize("kind", [Do, DoAwaiting])
"""With a handler that never awaits, which whoever asks an idle actor runs himself, and with one that awaits."""


def enter(actor: Probe, message: Message[Any]) -> str:
    if not actor.open:
        actor.stash(message)
    return "in"


def unlock(actor: Probe, message: Message[Any]) -> None:
    actor.open = True
    actor.unstash_all()


@both_ways
async def test_what_was_put_aside_is_answered_when_it_comes_back(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        door = system.spawn(Probe, "a")
        asking = asyncio.create_task(door.ask(kind(act=enter)))
        await begun(asking)
        assert await door.ask(kind(act=lambda actor, _: actor.open)) is False
        assert not asking.done()
        await door.ask(kind(act=unlock))
        assert await asking == "in"
        assert await door.ask(kind(act=enter)) == "in"
        assert door.restarts == 0


@both_ways
async def test_what_was_put_aside_comes_back_in_its_order_before_the_mail_that_waits(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        door, order = system.spawn(Probe, "a"), list[int]()

        def note(number: int) -> Do:
            def act(actor: Probe, message: Message[Any]) -> None:
                if not actor.open and number < 4:
                    actor.stash(message)
                order.append(number)

            return kind(act=act)

        for number in (1, 2, 3):
            door.tell(note(number))
        door.tell(kind(act=unlock))
        for number in (4, 5):
            door.tell(note(number))
        await door.ask(kind(act=enter))
        assert order == [1, 2, 3, 4, 5]


@both_ways
async def test_one_more_than_the_stash_holds_fails_whoever_asked_and_not_the_actor(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        door = system.spawn(Probe, "a", stash_max=2)
        door.tell(kind(act=enter))
        asking = asyncio.create_task(door.ask(kind(act=enter)))
        await begun(asking)
        with pytest.raises(StashFull, match="the stash of probe/a holds 2 messages"):
            await door.ask(kind(act=enter))
        door.tell(kind(act=enter))
        await door.ask(kind(act=unlock))
        assert await asking == "in"
        assert door.restarts == 0
        assert system.dead_letters().counts["stash_full"] == 1


async def test_the_full_stash_of_another_actor_is_a_failure_of_the_one_that_asked() -> None:
    async with LocalSystem("demo") as system:
        door = system.spawn(Probe, "a", policy=AT_ONCE)

        def fail_like_another(actor: Probe, message: Message[Any]) -> None:
            raise StashFull("probe/b", 2)

        with pytest.raises(AskFailed, match="StashFull"):
            await door.ask(Do(act=fail_like_another))
        assert await door.ask(Do(act=lambda actor, _: actor.open)) is False
        assert door.restarts == 1


@both_ways
async def test_a_failure_brings_back_what_was_put_aside_before_the_mail_that_waits(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        door, order, closed = system.spawn(Probe, "a", policy=AT_ONCE), list[int](), [True]

        def note(number: int) -> Do:
            def act(actor: Probe, message: Message[Any]) -> int:
                if number < 3 and closed[0]:
                    actor.stash(message)
                order.append(number)
                return number

            return kind(act=act)

        asks = [asyncio.create_task(door.ask(note(number))) for number in (1, 2)]
        for asking in asks:
            await begun(asking)
        failing = asyncio.create_task(door.ask(kind(act=fail)))
        later = asyncio.create_task(door.ask(note(3)))
        closed[0] = False
        with pytest.raises(AskFailed):
            await failing
        assert [await asking for asking in (*asks, later)] == [1, 2, 3]
        assert (order, door.restarts) == ([1, 2, 3], 1)


async def test_a_stop_answers_those_whose_messages_were_put_aside() -> None:
    async with LocalSystem("demo") as system:
        door = system.spawn(Probe, "a")
        door.tell(Do(act=enter))
        asking = asyncio.create_task(door.ask(DoAwaiting(act=enter)))
        await begun(asking)
        assert await door.ask(Do(act=lambda actor, _: actor.open)) is False
        await door.stop()
        with pytest.raises(ActorStopped, match="asked to stop"):
            await asking
        assert system.dead_letters().counts["stopped"] == 1


@both_ways
async def test_a_handler_that_is_stopped_puts_nothing_aside_any_more(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        door = system.spawn(Probe, "a")

        def stop_and_enter(actor: Probe, message: Message[Any]) -> None:
            actor.system.ref(Probe, actor.key).end(STOPPED)
            actor.stash(message)

        with pytest.raises(ActorStopped):
            await door.ask(kind(act=stop_and_enter))
        other = system.spawn(Probe, "b")
        other.tell(kind(act=stop_and_enter))
        watching = monitor(other)
        assert await watching.wait_down() == STOPPED
        assert system.dead_letters().counts["stopped"] == 1


@both_ways
async def test_only_the_message_that_is_handled_can_be_put_aside(kind: type[Do]) -> None:
    async with LocalSystem("demo") as system:
        door = system.spawn(Probe, "a", policy=AT_ONCE)

        def another(actor: Probe, message: Message[Any]) -> None:
            actor.stash(Do(act=enter))

        with pytest.raises(AskFailed, match="only the message that is being handled"):
            await door.ask(kind(act=another))
        assert await door.ask(Do(act=lambda actor, _: actor.open)) is False
        assert door.restarts == 1


async def test_a_handler_does_not_take_the_stash_for_a_failure() -> None:
    async with LocalSystem("demo") as system:
        door = system.spawn(Probe, "a")

        def careful(actor: Probe, message: Message[Any]) -> str:
            try:
                return enter(actor, message)
            except Exception:
                return "something went wrong"

        asking = asyncio.create_task(door.ask(Do(act=careful)))
        await begun(asking)
        await door.ask(Do(act=unlock))
        assert await asking == "in"


async def test_a_task_group_that_puts_a_message_aside_is_a_failure_of_the_actor_alone() -> None:
    async with LocalSystem("demo") as system:
        door = system.spawn(Probe, "a", policy=AT_ONCE)

        def grouped(actor: Probe, message: Message[Any]) -> None:
            raise BaseExceptionGroup("tasks", [_stashed(actor, message)])

        with pytest.raises(AskFailed, match="BaseExceptionGroup"):
            await door.ask(DoAwaiting(act=grouped))
        assert await door.ask(Do(act=lambda actor, _: actor.open)) is False


async def test_an_asker_that_gave_up_while_its_message_was_aside_is_not_served() -> None:
    async with LocalSystem("demo") as system:
        door = system.spawn(Probe, "a")
        with pytest.raises(AskTimeout):
            await door.ask(Do(act=enter), timeout_s=0.001)
        await door.ask(Do(act=unlock))
        assert await door.ask(Do(act=enter)) == "in"
        assert system.dead_letters().counts["late"] == 1


async def test_what_comes_back_may_be_more_than_the_mailbox_holds() -> None:
    async with LocalSystem("demo") as system:
        door, told = system.spawn(Probe, "a", mailbox_max=1), list[int]()
        aside, seen = list[int](), list[int]()

        def note(number: int) -> Do:
            def act(actor: Probe, message: Message[Any]) -> None:
                if not actor.open:
                    aside.append(number)
                    actor.stash(message)
                seen.append(number)

            return Do(act=act)

        def unlock_and_wait(actor: Probe, message: Message[Any]) -> None:
            unlock(actor, message)
            door.suspend()

        for number in range(5):
            door.tell(note(number))
            told.append(number)
            await until(lambda: aside == told)
        await door.ask(Do(act=unlock_and_wait))
        with pytest.raises(MailboxFull):
            door.tell(note(5))
        door.resume()
        await until(lambda: len(seen) == 5)
        door.tell(note(5))
        await until(lambda: len(seen) == 6)
        assert seen == [0, 1, 2, 3, 4, 5]


async def test_a_stash_of_less_than_nothing_is_refused() -> None:
    async with LocalSystem("demo") as system:
        with pytest.raises(ValueError, match="stash_max must be 0 or more, not -1"):
            system.spawn(Probe, "a", stash_max=-1)
        with pytest.raises(StashFull):
            await system.spawn(Probe, "a", stash_max=0).ask(Do(act=enter))


async def test_before_its_first_message_an_actor_has_nothing_to_put_aside() -> None:
    class Eager(Probe):
        async def on_start(self, start: Start) -> None:
            self.unstash_all()
            if not start.restarts:
                self.stash(Do(act=enter))

    async with LocalSystem("demo") as system:
        eager = system.spawn(Eager, "a", policy=AT_ONCE)
        assert await eager.ask(Do(act=lambda actor, _: actor.open)) is False
        assert eager.restarts == 1


def _stashed(actor: Probe, message: Message[Any]) -> BaseException:
    try:
        actor.stash(message)
    except BaseException as error:
        return error
