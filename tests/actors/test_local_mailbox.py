"""Mailboxes of local actors: what becomes of one message more, who waits for room, and what reached nobody."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from regrow.actors import (
    ActorStopped,
    AskTimeout,
    LocalActor,
    LocalDeadLetter,
    LocalRef,
    LocalSystem,
    Message,
    Overflow,
    command,
)
from regrow.actors.local_dead_letters import LATEST
from regrow.bus import Address, MailboxFull

pytestmark = pytest.mark.asyncio


class Note(Message[int]):
    number: int


NOTED: list[int] = []


class Notes(Message[list[int]]):
    pass


class Hold(Message[None]):
    """Handled once ``until`` is set; ``started`` tells that the handler has it."""

    started: asyncio.Event
    until: asyncio.Event


class Noter(LocalActor):
    @command
    async def note(self, msg: Note) -> int:
        NOTED.append(msg.number)
        return len(NOTED)

    @command
    async def notes(self, msg: Notes) -> list[int]:
        return list(NOTED)

    @command
    async def hold(self, msg: Hold) -> None:
        msg.started.set()
        await msg.until.wait()


@pytest.fixture(autouse=True)
def nothing_noted() -> None:
    NOTED.clear()


async def full(system: LocalSystem, overflow: Overflow, key: str = "a") -> tuple[LocalRef, asyncio.Event]:
    """An actor that holds a message and has two more in a mailbox for two; setting the event lets it go on."""
    noter = system.spawn(Noter, key, mailbox_max=2, overflow=overflow)
    held = Hold(started=asyncio.Event(), until=asyncio.Event())
    noter.tell(held)
    await held.started.wait()
    noter.tell(Note(number=1))
    noter.tell(Note(number=2))
    return noter, held.until


async def noted(count: int) -> list[int]:
    """The notes, once there are that many."""
    while len(NOTED) < count:  # noqa: ASYNC110 - a full mailbox takes no message that would tell
        await asyncio.sleep(0)
    return NOTED


async def begun(task: "asyncio.Task[Any]") -> None:
    """Returns once the task has run as far as it can."""
    await asyncio.wait([task], timeout=0)


async def test_newest_dropped_is_the_one_that_comes() -> None:
    async with LocalSystem("demo") as system:
        noter, until = await full(system, "drop_newest")
        noter.tell(Note(number=3))
        with pytest.raises(MailboxFull):
            await noter.ask(Note(number=4))
        until.set()
        assert await noted(2) == [1, 2]
        assert system.dead_letters().counts["drop_newest"] == 2


async def test_oldest_dropped_is_the_one_that_has_waited_longest() -> None:
    async with LocalSystem("demo") as system:
        noter, until = await full(system, "drop_oldest")
        noter.tell(Note(number=3))
        until.set()
        assert await noted(2) == [2, 3]
        letters = system.dead_letters()
        assert (letters.counts["drop_oldest"], letters.latest) == (
            1,
            (LocalDeadLetter(Address("noter", "a"), "Note", "drop_oldest"),),
        )


async def test_whoever_asked_with_the_oldest_is_told_that_it_is_gone() -> None:
    async with LocalSystem("demo") as system:
        noter, until = await full(system, "drop_oldest")
        asking = asyncio.create_task(noter.ask(Note(number=3)))
        await begun(asking)
        noter.tell(Note(number=4))
        noter.tell(Note(number=5))
        with pytest.raises(MailboxFull, match="noter/a"):
            await asking
        until.set()
        assert await noted(2) == [4, 5]


async def test_senders_wait_for_room_and_are_let_in_in_their_order() -> None:
    async with LocalSystem("demo") as system:
        noter, until = await full(system, "wait")
        telling = asyncio.create_task(noter.tell_wait(Note(number=3)))
        await begun(telling)
        asking = asyncio.create_task(noter.ask(Note(number=4)))
        await begun(asking)
        later = asyncio.create_task(noter.tell_wait(Note(number=5)))
        await begun(later)
        assert not telling.done()
        until.set()
        await telling
        await later
        assert await asking == 4
        assert await noter.ask(Notes()) == [1, 2, 3, 4, 5]


async def test_a_tell_cannot_wait_and_does_not_overtake_those_who_do() -> None:
    async with LocalSystem("demo") as system:
        noter, until = await full(system, "wait")
        telling = asyncio.create_task(noter.tell_wait(Note(number=3)))
        await begun(telling)
        with pytest.raises(MailboxFull):
            noter.tell(Note(number=4))
        until.set()
        await telling
        assert await noter.ask(Notes()) == [1, 2, 3]


async def test_a_sender_that_gives_up_has_left_nothing() -> None:
    async with LocalSystem("demo") as system:
        noter, until = await full(system, "wait")
        telling = asyncio.create_task(noter.tell_wait(Note(number=3)))
        await begun(telling)
        with pytest.raises(AskTimeout):
            await noter.ask(Note(number=4), timeout_s=0.001)
        telling.cancel()
        await begun(telling)
        until.set()
        assert await noter.ask(Notes()) == [1, 2]
        assert telling.cancelled()


async def test_those_who_wait_for_room_are_told_that_the_actor_was_stopped() -> None:
    async with LocalSystem("demo") as system:
        noter, until = await full(system, "wait")
        waiting: list[asyncio.Task[Any]] = [
            asyncio.create_task(noter.tell_wait(Note(number=3))),
            asyncio.create_task(noter.ask(Note(number=4))),
        ]
        for each in waiting:
            await begun(each)
        stopping = asyncio.create_task(noter.stop())
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in results] == [ActorStopped, ActorStopped]
        until.set()
        await stopping
        with pytest.raises(ActorStopped):
            await noter.tell_wait(Note(number=5))


async def test_telling_with_room_waits_for_nothing() -> None:
    async with LocalSystem("demo") as system:
        for overflow in ("fail", "wait"):
            noter = system.spawn(Noter, overflow, overflow=overflow)
            await noter.tell_wait(Note(number=1))
            assert await noter.ask(Notes())


async def test_where_nobody_waits_a_full_mailbox_is_an_error_for_one_who_would() -> None:
    async with LocalSystem("demo") as system:
        noter, until = await full(system, "fail")
        with pytest.raises(MailboxFull):
            await noter.tell_wait(Note(number=3))
        until.set()


async def test_an_unknown_overflow_is_refused() -> None:
    async with LocalSystem("demo") as system:
        with pytest.raises(ValueError, match="overflow is one of fail, wait, drop_newest, drop_oldest, not 'oldest'"):
            system.spawn(Noter, "a", overflow="oldest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_reply_that_comes_after_the_timeout_is_dropped_and_counted() -> None:
    async with LocalSystem("demo") as system:
        noter = system.spawn(Noter, "a")
        held = Hold(started=asyncio.Event(), until=asyncio.Event())
        with pytest.raises(AskTimeout):
            await noter.ask(held, timeout_s=0.001)
        held.until.set()
        assert await noter.ask(Notes()) == []
        letters = system.dead_letters()
        assert letters.counts["late_reply"] == 1
        assert letters.latest == (LocalDeadLetter(noter.address, "Hold", "late_reply"),)


async def test_what_was_told_to_an_actor_that_is_stopped_is_counted() -> None:
    async with LocalSystem("demo") as system:
        noter, until = await full(system, "fail")
        stopping = asyncio.create_task(noter.stop())
        await begun(stopping)
        until.set()
        await stopping
    assert system.dead_letters().counts["stopped"] == 2


async def test_many_dead_letters_are_said_in_a_line_and_the_latest_kept() -> None:
    system = LocalSystem("demo")
    with capture_logs() as logs:
        async with system:
            noter, until = await full(system, "drop_newest")
            for number in range(2 * LATEST):
                noter.tell(Note(number=number))
            until.set()
            await noted(2)
    assert [(each["reason"], each.get("repeated")) for each in logs] == [
        ("drop_newest", None),
        ("drop_newest", 2 * LATEST - 1),
    ]
    assert len(system.dead_letters().latest) == LATEST
