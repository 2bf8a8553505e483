"""Idle local actors that whoever asks serves himself: nothing that a handler may do there differs from its turn in a runner."""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import pytest
from tests.actors.local_probe import AT_ONCE, Do, DoAwaiting, Probe, fail, until

from regrow.actors import AskFailed, AskTimeout, LocalActor, LocalSystem, Message, Refused, command
from regrow.supervisor import Shutdown, monitor

pytestmark = pytest.mark.asyncio


class Ask(Message[Any]):
    """Asks the actor of that key, and answers with its reply."""

    key: str
    message: Message[Any]
    timeout_s: float = 30.0


class Asker(Probe):
    @command
    async def ask(self, msg: Ask) -> Any:
        return await self.system.ref(Asker, msg.key).ask(msg.message, timeout_s=msg.timeout_s)


async def test_a_handler_that_is_served_may_tell_its_own_actor_and_others() -> None:
    async with LocalSystem("demo") as system:
        a, b, order = system.spawn(Probe, "a"), system.spawn(Probe, "b"), list[str]()

        def noting(name: str) -> Do:
            return Do(act=lambda actor, _: order.append(f"{name} in {actor.key}"))

        def tell(actor: Probe, message: Message[Any]) -> None:
            a.tell(noting("first"))
            b.tell(noting("second"))
            a.tell(noting("third"))
            order.append("served")

        await a.ask(Do(act=tell))
        assert order == ["served"]
        await b.ask(noting("fourth"))
        await a.ask(noting("fifth"))
        assert [each for each in order if each.endswith("a")] == ["first in a", "third in a", "fifth in a"]
        assert [each for each in order if each.endswith("b")] == ["second in b", "fourth in b"]


async def test_a_waiting_handler_is_served_by_another_that_is_idle() -> None:
    async with LocalSystem("demo") as system:
        a, b = system.spawn(Asker, "a"), system.spawn(Asker, "b")

        def key_of(actor: Probe, message: Message[Any]) -> str:
            return actor.key

        assert await a.ask(Ask(key="b", message=Do(act=key_of))) == "b"
        system.spawn(Asker, "c")
        assert await a.ask(Ask(key="b", message=Ask(key="c", message=Do(act=key_of)))) == "c"
        assert await b.ask(Do(act=key_of)) == "b"


async def test_two_idle_actors_that_ask_each_other_end_in_a_timeout_and_go_on() -> None:
    async with LocalSystem("demo") as system:
        a, b = (system.spawn(Asker, key, policy=AT_ONCE) for key in "ab")
        back = Ask(key="a", message=Do(act=lambda actor, _: actor.key))
        with pytest.raises((AskFailed, AskTimeout)):
            await a.ask(Ask(key="b", message=back), timeout_s=0.01)
        assert await a.ask(Do(act=lambda actor, _: actor.key)) == "a"
        assert await b.ask(back) == "a"


async def test_what_a_served_handler_sets_in_its_context_does_not_reach_whoever_asks() -> None:
    mark = contextvars.ContextVar("mark", default="none")
    async with LocalSystem("demo") as system:
        probe = system.spawn(Probe, "a")
        assert await probe.ask(Do(act=lambda actor, _: mark.set("the handler's"))) is not None
        assert mark.get() == "none"
        mark.set("the asker's")
        assert await system.spawn(Probe, "b").ask(Do(act=lambda actor, _: mark.get())) != "the asker's"


async def test_a_served_handler_may_stop_its_own_actor() -> None:
    async with LocalSystem("demo") as system:
        probe = system.spawn(Probe, "a")

        def stop(actor: Probe, message: Message[Any]) -> str:
            probe.end(Shutdown())
            return "last words"

        assert await probe.ask(Do(act=stop)) == "last words"
        assert monitor(probe).down == Shutdown()


async def test_a_served_handler_that_fails_keeps_what_it_told_its_own_actor() -> None:
    async with LocalSystem("demo") as system:
        probe, order = system.spawn(Probe, "a", policy=AT_ONCE), list[str]()

        def tell_and_fail(actor: Probe, message: Message[Any]) -> None:
            probe.tell(Do(act=lambda actor, _: order.append("told")))
            fail(actor, message)

        with pytest.raises(AskFailed, match="ValueError"):
            await probe.ask(Do(act=tell_and_fail))
        await until(lambda: order == ["told"])
        assert probe.restarts == 1


class Add(Message[int]):
    amount: int


F = TypeVar("F", bound=Callable[..., Any])


def counted(method: F) -> F:
    """A decorator that awaits what it wraps."""

    @functools.wraps(method)
    async def wrapped(self: Any, msg: Add) -> Any:
        self.calls += 1
        return await method(self, msg)

    return cast(F, wrapped)


class Base(LocalActor):
    total: int = 0
    calls: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.total += msg.amount
        return self.total


class Twice(Base):
    """Overrides a handler that never awaits with one that awaits it."""

    @command
    async def add(self, msg: Add) -> int:
        await super().add(msg)
        return await super().add(msg)


class Limited(Base):
    """Overrides it with another that never awaits."""

    @command
    async def add(self, msg: Add) -> int:
        if msg.amount > 9:
            raise Refused("too much")
        self.total += msg.amount
        return self.total


class Counted(Base):
    @command
    @counted
    async def add(self, msg: Add) -> int:
        return await super().add(msg)


class Inherits(Limited):
    pass


@pytest.mark.parametrize(
    ("kind", "served", "replies"),
    [
        (Base, True, [2, 4]),
        (Twice, False, [4, 8]),
        (Limited, True, [2, 4]),
        (Inherits, True, [2, 4]),
        (Counted, False, [2, 4]),
    ],
)
async def test_inherited_and_decorated_handlers_are_what_they_look_like(
    kind: type[Base], served: bool, replies: list[int]
) -> None:
    async with LocalSystem("demo") as system:
        actor = system.spawn(kind, "a")
        first = actor.ask(Add(amount=2))
        told: list[int] = []
        try:
            first.send(None)
        except StopIteration as done:  # without a turn of the loop
            told.append(done.value)
        else:
            first.close()
        assert bool(told) is served
    async with LocalSystem("demo") as system:
        actor = system.spawn(kind, "a")
        assert [await actor.ask(Add(amount=2)) for _ in range(2)] == replies
        actor.tell(Add(amount=2))
        assert await actor.ask(Add(amount=2)) == 2 * replies[1]
        assert actor.restarts == 0


async def test_a_refusal_of_an_inherited_handler_is_a_reply() -> None:
    async with LocalSystem("demo") as system:
        actor = system.spawn(Inherits, "a")
        with pytest.raises(Refused, match="too much"):
            await actor.ask(Add(amount=10))
        assert await actor.ask(Add(amount=9)) == 9


async def test_a_waiting_one_is_not_served_by_whoever_asks_it() -> None:
    async with LocalSystem("demo") as system:
        probe = system.spawn(Probe, "a")
        inside: list[bool] = []

        def look(actor: Probe, message: Message[Any]) -> None:
            inside.append(asyncio.current_task() is asking)

        asking = asyncio.current_task()
        await probe.ask(Do(act=look))
        await probe.ask(DoAwaiting(act=look))
        assert inside == [True, False]
