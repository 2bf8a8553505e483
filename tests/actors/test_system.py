"""A system as one tree: in which order its children come and go, who is restarted with whom, and what lives without mail."""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

import pytest
from tests.actors.counter import Add, Counter, Total

from regrow.actors import (
    Actor,
    DefinitionError,
    Kind,
    LocalSystem,
    Message,
    Node,
    Policy,
    Singleton,
    Start,
    System,
    command,
    tool,
)
from regrow.agents.tool_agent import ToolAgent
from regrow.bus import Bus, MemoryBus
from regrow.supervisor import Backoff, ChildSpec, Crashed
from regrow.supervisor import Start as ChildStart

pytestmark = pytest.mark.asyncio

AT_ONCE = Backoff(first_s=0.0)


class Block(Message[None]):
    how: str


class Coordinator(Counter):
    async def on_start(self, start: Start) -> None:
        self.port("told")(self.key, self.total, start)

    @command
    async def fail(self, msg: Block) -> None:
        raise ValueError(msg.how)


@tool
async def look(name: str) -> str:
    return name


class Service:
    """A child beside the actors that a test lets die."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fails = asyncio.Event()

    async def run(self, start: ChildStart) -> None:
        start.ready()
        await self.fails.wait()
        self.fails.clear()
        raise OSError(self.name)

    @property
    def spec(self) -> ChildSpec:
        return ChildSpec(id=self.name, run=self.run, backoff=AT_ONCE)


class Lives:
    """What singletons were told when they began to live."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, Start]] = []
        self._news = asyncio.Event()

    def __call__(self, key: str, total: int, start: Start) -> None:
        self.told.append((key, total, start))
        self._news.set()

    async def next(self, count: int) -> tuple[str, int, Start]:
        """The one with this number, from 1."""
        while len(self.told) < count:
            self._news.clear()
            await self._news.wait()
        return self.told[count - 1]


def names(node: Node) -> list[str]:
    return [each.name for each in node.supervisor.tree().children]


def restarted(node: Node) -> set[str]:
    return {each.id for each in node.supervisor.which_children() if each.restarts}


# The tree


async def test_kinds_and_other_children_stand_in_the_tree_in_their_order(bus: Bus, app_name: str) -> None:
    agent = ToolAgent("search", tools=[look])
    children: list[Any] = [agent, Singleton(Coordinator), Service("last").spec, LocalSystem("memory")]
    made = System(app_name, [Counter], children=children, ports={"told": Lives()})
    async with made.host(bus) as node:
        assert names(node) == [
            "mail",
            "actors.rg_schedule",
            "actors.counter",
            "tools.search",
            "actors.coordinator",
            "last",
            "local memory",
            "gateway",
            "introspection",
            "schedules",
        ]
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1
    assert (made.children, list(made.kinds)) == ((agent, *children[2:]), ["counter", "coordinator"])


@pytest.mark.parametrize(
    ("strategy", "with_it"),
    [
        ("one_for_one", {"second"}),
        ("rest_for_one", {"second", "actors.counter", "third", "gateway", "introspection"}),
        ("one_for_all", {"mail", "actors.rg_schedule", "first", "second", "actors.counter", "third", "gateway"}),
    ],
)
async def test_the_strategy_says_who_is_restarted_with_a_child_and_no_actor_loses_anything(
    bus: Bus, app_name: str, strategy: Any, with_it: set[str]
) -> None:
    first, second, third = (Service(name) for name in ("first", "second", "third"))
    children: list[Any] = [first.spec, second.spec, Counter, third.spec]
    async with System(app_name, children=children, strategy=strategy).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1
        died = asyncio.Event()
        node.supervisor.child("second").watch(lambda _: died.set())
        second.fails.set()
        await died.wait()
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 2
        assert await node.ref(Counter, "a").ask(Total()) == 2
        while node.supervisor.tree().children[-2].state != "running":
            await node.ref(Counter, "a").ask(Total())
        assert restarted(node) - {"introspection", "schedules"} == with_it - {"introspection"}


async def test_an_unknown_strategy_is_refused_when_the_system_is_made() -> None:
    wrong: Any = "all_for_one"
    with pytest.raises(DefinitionError, match="the strategy must be one of one_for_one"):
        System("x", [Counter], strategy=wrong)


async def test_a_class_may_stand_once_be_it_as_a_kind_or_a_singleton() -> None:
    with pytest.raises(DefinitionError, match="two actor classes have the kind 'counter'"):
        System("x", [Counter], children=[Singleton(Counter)])


async def test_a_replaced_system_keeps_its_order_and_its_strategy(app_name: str) -> None:
    made = System("x", children=[Service("first").spec, Counter], strategy="rest_for_one", ports={"a": 1})
    other = made.replaced(name=app_name, ports={"b": 2}).checked()
    assert (other.name, other.ports, other.strategy) == (app_name, {"a": 1, "b": 2}, "rest_for_one")
    assert other.kinds["counter"].policy.check_folds
    assert not made.kinds["counter"].policy.check_folds
    async with other.host(MemoryBus(app_name)) as node:
        assert names(node)[2:4] == ["first", "actors.counter"]


# Actors that live without mail


def single(app: str, lives: Lives, **options: Any) -> System:
    policy = Policy(backoff=AT_ONCE, mend_after_s=0.01, attempts_max=2)
    return System(app, children=[Singleton(Coordinator, policy=policy, **options)], ports={"told": lives}).checked()


async def test_a_singleton_lives_without_a_message_and_comes_back_from_its_log(bus: Bus, app_name: str) -> None:
    lives = Lives()
    async with single(app_name, lives).host(bus) as node:
        assert await lives.next(1) == ("main", 0, Start(None, 0, recovered=False))
        assert await node.ref(Coordinator, "main").ask(Add(amount=3)) == 3
    async with single(app_name, lives).host(bus):
        assert await lives.next(2) == ("main", 3, Start(None, 0, recovered=True))
    assert len(lives.told) == 2


async def test_a_singleton_may_have_another_key_and_its_class_other_actors(bus: Bus, app_name: str) -> None:
    lives = Lives()
    async with single(app_name, lives, key="first").host(bus) as node:
        assert (await lives.next(1))[0] == "first"
        assert await node.ref(Coordinator, "second").ask(Add(amount=3)) == 3
        assert (await lives.next(2))[0] == "second"


async def test_a_singleton_is_not_dropped_for_being_idle(bus: Bus, app_name: str) -> None:
    lives = Lives()
    async with single(app_name, lives, idle_after_s=0.0, idle_max=0).host(bus) as node:
        await lives.next(1)
        roster = node.host.rosters["coordinator"]
        await node.ref(Coordinator, "other").ask(Add(amount=1))
        roster.passivate(1.0)
        while len(roster) > 1:
            await node.ref(Coordinator, "main").ask(Total())
        assert await node.ref(Coordinator, "main").ask(Add(amount=1)) == 1
    assert [key for key, _, _ in lives.told] == ["main", "other"]


@pytest.mark.parametrize("child", ["actors.coordinator", "mail"])
async def test_a_singleton_lives_again_when_its_kind_or_the_mail_was_restarted(
    bus: Bus, app_name: str, child: str
) -> None:
    lives = Lives()
    async with single(app_name, lives).host(bus) as node:
        await lives.next(1)
        assert await node.ref(Coordinator, "main").ask(Add(amount=3)) == 3
        await node.supervisor.terminate_child(child)
        await node.supervisor.restart_child(child)
        key, total, start = await lives.next(2)
        assert (key, total, start.recovered) == ("main", 3, True)
        assert await node.ref(Coordinator, "main").ask(Add(amount=3)) == 6


async def test_a_singleton_that_cannot_start_is_tried_again(bus: Bus, app_name: str) -> None:
    lives = Lives()

    def told(key: str, total: int, start: Start) -> None:
        lives(key, total, start)
        if len(lives.told) == 1:
            raise OSError("no world")

    made = single(app_name, lives).replaced(ports={"told": told})
    async with made.host(bus):
        _, _, start = await lives.next(2)
        assert isinstance(start.cause, Crashed)
        assert start.restarts == 1


# What holds the event loop


class Holder(Actor):
    @command
    async def straight(self, msg: Add) -> int:
        time.sleep(0.15)  # noqa: ASYNC251 - what must not be done
        return msg.amount

    @command
    async def block(self, msg: Block) -> None:
        await asyncio.gather(_hold(), asyncio.sleep(0))


async def _hold() -> None:
    time.sleep(0.15)  # noqa: ASYNC251 - what must not be done


@pytest.mark.parametrize("message", [Add(amount=1), Block(how="in a task of its own")])
async def test_an_actor_that_holds_the_event_loop_is_named(
    app_name: str, logged: list[MutableMapping[str, Any]], message: Message[Any]
) -> None:
    async with System(app_name, [Kind(Holder)]).host(MemoryBus(app_name), blocked_after_s=0.05) as node:
        await node.ref(Holder, "a").ask(message)
    (named,) = (each for each in logged if each["event"] == "actor_blocks_event_loop")
    assert (named["actor"], "test_system.py" in named["at"]) == ("holder/a", True)
    assert [each["event"] for each in logged].count("event_loop_blocked") == 1


async def test_a_node_that_is_not_watched_says_nothing_of_it(
    app_name: str, logged: list[MutableMapping[str, Any]]
) -> None:
    async with System(app_name, [Kind(Holder)]).host(MemoryBus(app_name), blocked_after_s=None) as node:
        await node.ref(Holder, "a").ask(Add(amount=1))
    assert not [each for each in logged if each["event"] in ("actor_blocks_event_loop", "event_loop_blocked")]
