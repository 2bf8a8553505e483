"""Behaviours of local actors: other handlers from the next message on, the same fields, the same mail."""

import asyncio
from typing import Any

import pytest
from tests.actors.local_probe import AT_ONCE, nothing

from regrow.actors import ActorError, AskFailed, DefinitionError, LocalActor, LocalSystem, Message, command
from regrow.actors.local_behaviour import check_behaviour

pytestmark = pytest.mark.asyncio


class Push(Message[str]):
    pass


class PushAwaiting(Message[str]):
    pass


class Fail(Message[None]):
    pass


class Switch(LocalActor):
    pushes: int = 0
    on: list[str] = []

    def shown(self) -> str:
        return f"{self.pushes} off"

    @command
    async def push(self, msg: Push) -> str:
        self.pushes += 1
        shown = self.shown()
        self.become(On)
        return shown

    @command
    async def push_awaiting(self, msg: PushAwaiting) -> str:
        await nothing()
        self.pushes += 1
        shown = self.shown()
        self.become(On)
        await nothing()
        return shown

    @command
    async def fail(self, msg: Fail) -> None:
        raise ValueError


class On(Switch):
    def shown(self) -> str:
        return f"{self.pushes} on"

    @command
    async def push(self, msg: Push) -> str:
        self.pushes += 1
        shown = self.shown()
        self.become(Switch)
        return shown


class Unmarked(Switch):
    async def push(self, msg: Push) -> str:  # no command any more
        return ""


class Other(Message[None]):
    pass


class More(Switch):
    @command
    async def other(self, msg: Other) -> None: ...


class Field(Switch):
    more: int = 0


class Default(Switch):
    pushes: int = 7


class Stranger(LocalActor):
    pass


async def test_other_handlers_are_in_force_from_the_next_message_on_and_fields_stay() -> None:
    async with LocalSystem("demo") as system:
        switch = system.spawn(Switch, "a")
        assert [await switch.ask(Push()) for _ in range(4)] == ["1 off", "2 on", "3 off", "4 on"]
        assert system.ref(Switch, "a") == switch


async def test_they_are_in_force_for_mail_that_waits_and_none_of_it_is_lost() -> None:
    async with LocalSystem("demo") as system:
        switch = system.spawn(Switch, "a")
        messages: list[Message[str]] = [
            PushAwaiting(),
            Push(),
            Push(),
            PushAwaiting(),
            PushAwaiting(),
            *([Push()] * 95),
        ]
        asks = [asyncio.create_task(switch.ask(message)) for message in messages]
        shown = [await asking for asking in asks]
        assert [each.split()[0] for each in shown] == [str(number) for number in range(1, 101)]
        assert shown[:6] == ["1 off", "2 on", "3 off", "4 on", "5 on", "6 on"]
        assert shown[6:] == [f"{number} {'on' if number % 2 == 0 else 'off'}" for number in range(7, 101)]


async def test_one_that_changes_at_each_message_gives_others_their_turn() -> None:
    async with LocalSystem("demo") as system:
        switch, other = system.spawn(Switch, "a", mailbox_max=20_000), system.spawn(Switch, "b")
        for _ in range(10_000):
            switch.tell(Push())
        last = asyncio.create_task(switch.ask(Push()))
        assert await other.ask(PushAwaiting()) == "1 off"
        assert not last.done()
        assert await last == "10001 off"


async def test_a_failure_goes_back_to_the_class_that_was_spawned() -> None:
    async with LocalSystem("demo") as system:
        switch = system.spawn(Switch, "a", policy=AT_ONCE)
        await switch.ask(Push())
        failing = asyncio.create_task(switch.ask(Fail()))
        after = [asyncio.create_task(switch.ask(Push())) for _ in range(2)]
        with pytest.raises(AskFailed):
            await failing
        assert [await each for each in after] == ["1 off", "2 on"]


async def test_an_incarnation_that_has_failed_changes_nothing_any_more() -> None:
    class Keep(Message[None]):
        kept: list[Any]

    class Keeper(LocalActor):
        @command
        async def keep(self, msg: Keep) -> None:
            msg.kept.append(self)
            raise ValueError

    async with LocalSystem("demo") as system:
        keeper, kept = system.spawn(Keeper, "a", policy=AT_ONCE), list[Any]()
        with pytest.raises(AskFailed):
            await keeper.ask(Keep(kept=kept))
        with pytest.raises(
            ActorError, match="become is for the incarnation that lives: this one of keeper/a has failed"
        ):
            kept[0].become(Keeper)
        with pytest.raises(ActorError, match="set_timer is for"):
            kept[0].set_timer("t", Keep(kept=kept), after_s=0)


async def test_outside_of_a_system_there_is_nothing_to_become() -> None:
    with pytest.raises(ActorError, match="Switch does not run"):
        Switch().become(On)


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (Stranger, "Stranger is no behaviour of Switch: it is no class below Switch"),
        (Unmarked, "Unmarked is no behaviour of Switch: only one of the two handles Push"),
        (More, "More is no behaviour of Switch: only one of the two handles Other"),
        (Field, "Field is no behaviour of Switch: the fields stay as they are, and it declares more"),
        (Default, "Default is no behaviour of Switch: the fields stay as they are, and it declares pushes"),
    ],
)
async def test_a_class_that_is_no_behaviour_is_refused_in_one_sentence(behaviour: type[LocalActor], why: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_behaviour(Switch, behaviour)
    assert str(caught.value) == why
    check_behaviour(Switch, Switch)
    check_behaviour(Switch, On)
