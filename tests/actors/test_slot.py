"""Places among the active actors of a kind."""

import asyncio

import pytest

from regrow.actors.slot import Slot

pytestmark = pytest.mark.asyncio


async def test_a_place_is_given_back_at_the_end() -> None:
    limit = asyncio.Semaphore(1)
    async with Slot(limit):
        assert limit.locked()
    assert not limit.locked()


async def test_who_is_away_leaves_his_place_to_others_and_waits_for_one_when_he_is_back() -> None:
    limit = asyncio.Semaphore(1)
    other_is_in, let_other_go = asyncio.Event(), asyncio.Event()

    async def other() -> None:
        async with Slot(limit):
            other_is_in.set()
            await let_other_go.wait()

    async with asyncio.TaskGroup() as group, Slot(limit) as slot:
        group.create_task(other())
        async with slot.away():
            await other_is_in.wait()
            asyncio.get_running_loop().call_soon(let_other_go.set)
        assert limit.locked()
    assert not limit.locked()


async def test_several_may_be_away_at_once_and_the_last_one_takes_the_place_again() -> None:
    limit = asyncio.Semaphore(1)
    gates = [asyncio.Event(), asyncio.Event()]
    async with Slot(limit) as slot:

        async def leave(gate: asyncio.Event) -> None:
            async with slot.away():
                await gate.wait()

        tasks = [asyncio.create_task(leave(gate)) for gate in gates]
        await asyncio.sleep(0)
        assert not limit.locked()
        gates[0].set()
        await tasks[0]
        assert not limit.locked()
        gates[1].set()
        await tasks[1]
        assert limit.locked()
    assert not limit.locked()


async def test_who_leaves_again_while_he_waits_for_a_place_holds_none() -> None:
    limit = asyncio.Semaphore(1)
    async with Slot(limit) as slot:
        back = asyncio.Event()

        async def leave(until: asyncio.Event) -> None:
            async with slot.away():
                await until.wait()

        first = asyncio.create_task(leave(back))
        await asyncio.sleep(0)
        async with Slot(limit):
            back.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            again = asyncio.Event()
            second = asyncio.create_task(leave(again))
            await asyncio.sleep(0)
        await first
        assert not limit.locked()
        again.set()
        await second
        assert limit.locked()
    assert not limit.locked()


async def test_who_is_cancelled_while_away_does_not_wait_for_a_place() -> None:
    limit = asyncio.Semaphore(1)
    async with Slot(limit) as slot:

        async def leave() -> None:
            async with slot.away():
                await asyncio.Event().wait()

        leaving = asyncio.create_task(leave())
        await asyncio.sleep(0)
        async with Slot(limit):
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
    assert not limit.locked()
