"""Local actors beside durable ones in a process: what an ask between them costs in JSON, and that its deadline goes along."""

import asyncio
import sys
from typing import Any

import pytest
from tests.actors.counter import Add, Counter, Total

from regrow.actors import (
    Actor,
    AskTimeout,
    Client,
    LocalActor,
    LocalSystem,
    Message,
    Node,
    Refused,
    System,
    command,
    tool,
)
from regrow.actors.local_limit import limit_now
from regrow.bus import MemoryBus
from regrow.bus.codec import encode

pytestmark = pytest.mark.asyncio

APP = System("beside", actors=[Counter])


class Pass(Message[int]):
    """To be passed on to the durable actor."""

    message: Any
    to: Node | Client


class Desk(LocalActor):
    @command
    async def pass_on(self, msg: Pass) -> int:
        reply: int = await msg.to.ref(Counter, "a").ask(msg.message)
        return reply


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the encoder made, wherever it was called."""
    made: list[bytes] = []

    def noted(value: object) -> bytes:
        made.append(encode(value))
        return made[-1]

    for name, module in sorted(sys.modules.items()):
        if name.startswith("regrow.") and getattr(module, "encode", None) is encode:
            monkeypatch.setattr(module, "encode", noted)
    return made


async def test_an_ask_of_a_durable_actor_in_the_process_encodes_the_message_its_record_and_what_lies_in_that(
    encoded: list[bytes],
) -> None:
    async with APP.host(MemoryBus(APP.name)) as node, LocalSystem("demo") as system:
        desk = system.spawn(Desk, "d")
        assert await desk.ask(Pass(message=Add(amount=1), to=node)) == 1
        encoded.clear()
        assert await desk.ask(Pass(message=Add(amount=2), to=node)) == 3
        made = list(encoded)
    message, event, reply, record = made
    assert (message, reply) == (b'{"type":"Add","amount":2}', b"3")
    assert b'"type":"Turn"' in record
    assert event in record and b'"reply":{"value":3}' in record


async def test_an_ask_of_another_local_actor_encodes_nothing(encoded: list[bytes]) -> None:
    async with LocalSystem("demo") as system:
        system.spawn(Echo, "e")
        assert await system.spawn(Asker, "a").ask(Said(text="hello")) == "hello"
    assert encoded == []


@pytest.mark.parametrize("message", [Add(amount=1), Total()])
async def test_an_ask_of_a_durable_actor_ends_with_the_ask_that_its_handler_serves(message: Message[int]) -> None:
    ended: asyncio.Future[AskTimeout] = asyncio.get_running_loop().create_future()

    class Patient(LocalActor):
        @command
        async def pass_on(self, msg: Pass) -> int:
            try:
                return await msg.to.ref(Counter, "a").ask(msg.message)
            except AskTimeout as error:
                ended.set_result(error)
                raise Refused("later") from error

    async with LocalSystem("demo") as system:
        nobody = Client(MemoryBus(APP.name))
        with pytest.raises(AskTimeout, match="patient/d"):
            await system.spawn(Patient, "d").ask(Pass(message=message, to=nobody), timeout_s=0.02)
        error = await ended
    assert error.actor == "counter/a"
    assert error.timeout_s <= 0.02


async def test_a_handler_whose_time_is_over_leaves_nothing_with_a_durable_actor() -> None:
    go_on = asyncio.Event()
    ended: asyncio.Future[AskTimeout] = asyncio.get_running_loop().create_future()

    class Late(LocalActor):
        @command
        async def pass_on(self, msg: Pass) -> int:
            await go_on.wait()
            try:
                return await msg.to.ref(Counter, "a").ask(msg.message)
            except AskTimeout as error:
                ended.set_result(error)
                raise Refused("later") from error

    async with APP.host(MemoryBus(APP.name)) as node, LocalSystem("demo") as system:
        with pytest.raises(AskTimeout):
            await system.spawn(Late, "l").ask(Pass(message=Add(amount=1), to=node), timeout_s=0.001)
        go_on.set()
        assert (await ended).timeout_s == 0.0
        assert await node.ref(Counter, "a").ask(Total()) == 0


async def test_a_durable_actor_works_on_whatever_the_deadline_of_the_local_one_that_asks() -> None:
    async with SEES.host(MemoryBus(SEES.name)) as node, LocalSystem("demo") as system:
        assert await system.spawn(Watcher, "w").ask(Watch(to=node)) == (1, 0, 0)


class Look(Message[int]):
    pass


class LookAwaiting(Message[int]):
    pass


@tool
async def limits() -> int:
    return len(limit_now.get() or ())


class Sees(Actor):
    """Answers with how many limits its handlers are under."""

    @command
    async def look(self, msg: Look) -> int:
        return len(limit_now.get() or ())

    @command
    async def look_awaiting(self, msg: LookAwaiting) -> int:
        return await limits() + len(limit_now.get() or ())


SEES = System("sees", actors=[Sees])


class Watch(Message[tuple[int, int, int]]):
    to: Node


class Watcher(LocalActor):
    @command
    async def watch(self, msg: Watch) -> tuple[int, int, int]:
        ref = msg.to.ref(Sees, "s")
        return len(limit_now.get() or ()), await ref.ask(Look()), await ref.ask(LookAwaiting())


class Said(Message[str]):
    text: str


class Echo(LocalActor):
    @command
    async def said(self, msg: Said) -> str:
        return msg.text


class Asker(LocalActor):
    @command
    async def said(self, msg: Said) -> str:
        return await self.system.ref(Echo, "e").ask(msg)
