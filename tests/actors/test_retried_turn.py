"""What a new attempt at a turn runs again, and what a reply must be."""

import asyncio
from collections import Counter

import pytest

from regrow.actors import Actor, AskFailed, Kind, Message, Policy, StepFailed, System, command, query, tool
from regrow.bus import MemoryBus
from regrow.supervisor import Backoff

RAN: Counter[str] = Counter()

pytestmark = pytest.mark.asyncio


class Fetch(Message[str]):
    names: list[str]


class Fallback(Message[str]):
    pass


class Wrong(Message[int]):
    pass


class WrongView(Message[int]):
    pass


@tool
async def fetch(name: str) -> str:
    RAN[name] += 1
    if name.startswith("late") and RAN[name] == 1:
        raise ConnectionError("not yet")
    if name.startswith("never"):
        raise ConnectionError("gone")
    return name.upper()


class Fetcher(Actor):
    @command
    async def fetch(self, message: Fetch) -> str:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetching(name)) for name in message.names]
        return " ".join(task.result() for task in tasks)

    @command
    async def fall_back(self, message: Fallback) -> str:
        try:
            return await fetch("never")
        except StepFailed:
            return await fetch("instead") + await fetch("late instead")

    @command
    async def wrong(self, message: Wrong) -> int:
        return await_nothing("three")

    @query
    async def wrong_view(self, message: WrongView) -> int:
        return await_nothing("three")


async def fetching(name: str) -> str:
    return await fetch(name)


def await_nothing(value: object) -> int:
    return value  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


@pytest.fixture
def fetchers() -> System:
    RAN.clear()
    return System("retried", [Kind(actor=Fetcher, policy=Policy(backoff=Backoff(first_s=0.0)))])


async def test_the_step_that_ended_an_attempt_runs_again_and_no_other(fetchers: System) -> None:
    async with fetchers.host(MemoryBus("retried")) as node:
        answer = await node.ref(Fetcher, "a").ask(Fetch(names=["one", "late"]))
    assert answer == "ONE LATE"
    assert RAN == {"one": 1, "late": 2}


async def test_a_failure_that_the_handler_dealt_with_stays_as_recorded(fetchers: System) -> None:
    async with fetchers.host(MemoryBus("retried")) as node:
        assert await node.ref(Fetcher, "a").ask(Fallback()) == "INSTEADLATE INSTEAD"
    assert RAN == {"never": 1, "instead": 1, "late instead": 2}


async def test_a_step_that_fails_each_time_is_tried_as_often_as_the_turn(fetchers: System) -> None:
    bus = MemoryBus("retried")
    async with fetchers.host(bus) as node:
        with pytest.raises(AskFailed, match="ConnectionError: gone"):
            await node.ref(Fetcher, "a").ask(Fetch(names=["never"]))
    assert RAN == {"never": 3}
    assert len(await bus.dead.find()) == 1


async def test_a_reply_of_another_type_than_promised_is_a_defect_of_the_actor(fetchers: System) -> None:
    async with fetchers.host(MemoryBus("retried")) as node:
        for message in (Wrong(), WrongView()):
            with pytest.raises(AskFailed, match=r"returned str, but Wrong(View)? is answered with int"):
                await node.ref(Fetcher, "a").ask(message)
