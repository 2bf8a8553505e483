"""User modules may postpone their annotations; this one does."""

from __future__ import annotations

import msgspec
import pytest

from regrow.actors import Actor, Event, Message, System, command, event, tool
from regrow.bus import MemoryBus

pytestmark = pytest.mark.asyncio


class Point(msgspec.Struct, frozen=True):
    x: int


class Move(Message[Point]):
    by: Point


class Moved(Event):
    by: Point


@tool
async def mirrored(point: Point) -> Point:
    return Point(-point.x)


class Walker(Actor):
    at: Point = Point(0)
    seen: list[Point] = []

    @command
    async def move(self, msg: Move) -> Point:
        back = await mirrored(msg.by)
        self.emit(Moved(by=msg.by))
        self.emit(Moved(by=back))
        self.emit(Moved(by=msg.by))
        return self.at

    @event
    def moved(self, fact: Moved) -> None:
        self.at = Point(self.at.x + fact.by.x)
        self.seen.append(self.at)


async def test_postponed_annotations_of_state_handlers_and_tools_are_resolved() -> None:
    bus = MemoryBus("walk")
    async with System("walk", actors=[Walker]).checked().host(bus) as node:
        assert await node.ref(Walker, "a").ask(Move(by=Point(2))) == Point(2)
        assert await node.ref(Walker, "a").ask(Move(by=Point(3))) == Point(5)
