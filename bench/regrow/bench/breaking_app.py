"""Runs that wait in the middle of their handlers, and the edits of this very file that break some of them.

Hosted by ``regrow run`` in processes of their own, from a copy of this file. With ``GATE`` in the environment nobody waits.
"""

import asyncio
import os

from regrow.actors import Actor, Event, Kind, Message, Policy, System, command, event, tool

WITNESS = "REGROW_BENCH_WITNESS"
GATE = "REGROW_BENCH_GATE"
WAIT_S = 3600.0

Edit = tuple[str, str]
EDITS: dict[str, Edit] = {
    "swapped": ("reserve(key)\n            await price(key, 1)", "price(key, 1)\n            await reserve(key)"),
    "argument": ("await price(key, 2)", "await price(key, 3)"),
    "event": ("(Event):\n    seat: str", "(Event):\n    seat: int"),
}
"""What each edit replaces, by the way of the runs that it breaks. (Here the texts stand in an order that is no code.)"""
WAYS = (*EDITS, "asking", "plain")


class CheckIn(Message[None]):
    at: str


class CheckedIn(Event):
    seat: str


class Go(Message[str]):
    way: str


class Board(Message[str]):
    pass


@tool
async def reserve(key: str) -> str:
    return f"reserved {key}"


@tool
async def price(key: str, class_: int) -> int:
    return len(key) * class_


@tool
async def board(key: str) -> str:
    """Waits, unless the gate is open."""
    _note(key)
    if GATE not in os.environ:
        await asyncio.Event().wait()
    return key


class Desk(Actor, kind="bench_desk", persist="fields"):
    """Is asked, and waits."""

    @command
    async def board(self, msg: Board) -> str:
        return await board(self.key)


class Trip(Actor, kind="bench_trip"):
    """Takes the way that it is told."""

    seat: str = ""

    @command
    async def check_in(self, msg: CheckIn) -> None:
        self.emit(CheckedIn(seat=msg.at))

    @command
    async def go(self, msg: Go) -> str:
        key = self.key
        if msg.way == "swapped":
            await reserve(key)
            await price(key, 1)
        elif msg.way == "argument":
            await price(key, 2)
        else:
            await asyncio.gather(reserve(key), price(key, 1))
        if msg.way == "asking":
            return await self.ref(Desk, key).ask(Board(), timeout_s=WAIT_S)
        return await board(key)

    @event
    def checked_in(self, fact: CheckedIn) -> None:
        self.seat = fact.seat


def edited(source: str, ways: tuple[str, ...]) -> str:
    """The source with these edits. Each is made where it is code, behind the list of them."""
    head, behind, code = source.partition("WAYS = ")
    for way in ways:
        before, after = EDITS[way]
        assert before in code, way
        code = code.replace(before, after)
    return head + behind + code


def _note(key: str) -> None:
    file = os.open(os.environ[WITNESS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{key}\n".encode())
    finally:
        os.close(file)


_POLICY = Policy(mend_after_s=600.0)
app = System("breaking", [Kind(actor=each, policy=_POLICY, active_max=5_000) for each in (Trip, Desk)])
