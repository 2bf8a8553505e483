"""A turn that is ended from outside comes to the same after any death: before the order is recorded, and all through its cleanup."""

import asyncio
from contextlib import suppress

import pytest

from regrow.actors import Actor, Administration, AskFailed, Kind, Message, Policy, System, command, tool
from regrow.actors.administration import CancellationWaits
from regrow.supervisor import Backoff
from regrow.testing import Outside, crash_points

pytestmark = pytest.mark.asyncio


class Go(Message[list[str]]):
    returns: bool
    sleeps: bool


@tool
async def book(what: str) -> str:
    await asyncio.sleep(0.1)
    return what


@tool
async def cancel_booking(what: str) -> str:
    await asyncio.sleep(0.1)
    return f"no {what}"


@tool
async def wait_for_ever(where: str) -> str:
    await asyncio.sleep(1e6)
    return where


class Booker(Actor, kind="booker", persist="fields"):
    undone: list[str] = []

    @command
    async def go(self, msg: Go) -> list[str]:
        booked = await asyncio.gather(book("flight"), book("hotel"))
        try:
            if msg.sleeps:
                await asyncio.gather(self.sleep(1e5), self.sleep(2e5))
            await asyncio.gather(wait_for_ever("here"), wait_for_ever("there"))
        except asyncio.CancelledError:
            self.undone = [
                await cancel_booking(booked[0]),
                *await asyncio.gather(cancel_booking(booked[1]), book("tea")),
            ]
            if msg.returns:
                return self.undone
            raise
        return list(booked)


def app() -> System:
    policy = Policy(backoff=Backoff(first_s=0.0), deaths_max=1_000, suspend_after_s=0.0)
    return System("booking", [Kind(actor=Booker, policy=policy)])


@pytest.mark.parametrize("sleeps", [False, True], ids=["loaded", "suspended"])
@pytest.mark.parametrize("returns", [False, True], ids=["goes", "returns"])
async def test_a_cancelled_turn_cleans_up_once_whatever_dies(returns: bool, sleeps: bool) -> None:
    async def scenario(outside: Outside) -> object:
        asking = asyncio.create_task(outside.ref(Booker, "a").ask(Go(returns=returns, sleeps=sleeps)))
        await asyncio.sleep(60)
        with suppress(CancellationWaits):
            await Administration(outside.bus).cancel("booker", "a", "enough", wait_s=0)
        try:
            return await asking
        except AskFailed as failed:
            return [failed.kind, failed.code, failed.message]

    report = await crash_points(app, scenario)
    assert report.ok, report
    assert report.points == report.possible
    assert report.tried["append"] > 10
