"""Mail first: who begins at once, who waits for the wave of mail to be over, and that nobody waits for ever."""

import asyncio

import pytest

from regrow.actors.intake import Begin, Intake


class Actors:
    """What an intake begins, in order; each acts until it is told to end."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self.begun: list[int] = []
        self.end = asyncio.Event()
        self._changed = asyncio.Condition()

    def act(self, number: int) -> Begin:
        async def run() -> None:
            self.begun.append(number)
            async with self._changed:
                self._changed.notify_all()
            await self.end.wait()

        return lambda: self._tasks.create_task(run())

    async def wait_begun(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.begun) >= count)


@pytest.mark.asyncio
async def test_while_few_are_acting_everybody_begins_at_once() -> None:
    async with asyncio.TaskGroup() as tasks:
        actors, intake = Actors(tasks), Intake()
        for number in range(10):
            intake.begin(actors.act(number))
        assert len(intake) == 0
        await actors.wait_begun(10)
        actors.end.set()


@pytest.mark.asyncio
async def test_those_beyond_begin_in_their_order_when_no_more_mail_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regrow.actors.intake.ACTING_FREE", 2)
    async with asyncio.TaskGroup() as tasks:
        actors, intake = Actors(tasks), Intake()
        for number in range(100):
            intake.begin(actors.act(number))
        assert len(intake) == 98
        await actors.wait_begun(100)
        assert actors.begun == list(range(100))
        assert len(intake) == 0
        actors.end.set()


@pytest.mark.asyncio
async def test_mail_that_never_ceases_keeps_nobody_from_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regrow.actors.intake.ACTING_FREE", 1)
    monkeypatch.setattr("regrow.actors.intake.MAIL_FIRST_S", 0.01)
    async with asyncio.TaskGroup() as tasks:
        actors, intake = Actors(tasks), Intake()
        intake.begin(actors.act(0))
        loop = asyncio.get_running_loop()

        def mail() -> None:
            if len(actors.begun) < 2:
                intake.begin(actors.act(1))
                loop.call_soon(mail)

        mail()
        await actors.wait_begun(2)
        actors.end.set()


@pytest.mark.asyncio
async def test_an_actor_that_is_gone_when_it_could_begin_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regrow.actors.intake.ACTING_FREE", 1)
    async with asyncio.TaskGroup() as tasks:
        actors, intake = Actors(tasks), Intake()
        intake.begin(lambda: None)
        intake.begin(actors.act(0))
        assert len(intake) == 0
        await actors.wait_begun(1)
        actors.end.set()
