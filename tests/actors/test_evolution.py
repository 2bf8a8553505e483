"""A new build goes on with what an old one left behind: in logs, in snapshots, in mailboxes. In memory and on a real server."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from regrow.actors import Actor, AskFailed, Event, Kind, Message, Policy, System, command, event, query
from regrow.actors.records import Record, Snapshot
from regrow.actors.upcast import upcast
from regrow.bus import Address, Bus, decode, encode, headers
from regrow.supervisor import Backoff

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]
Fields = dict[str, Any]

EACH_ONE_A_SNAPSHOT = Policy(backoff=Backoff(first_s=0.0), snapshot_every=1)


class OldPay(Message[int], tag="Pay"):
    euros: int


class Pay(Message[int], tag="Pay.v2"):
    cents: int


class Paid(Event):
    euros: int


class PaidCents(Event, tag="Paid.v2"):
    cents: int


class Paid3(Event, tag="Paid.v3"):
    cents: int


class Read(Message[int]):
    pass


class OldPurse(Actor, kind="purse"):
    euros: int = 0

    @command
    async def pay(self, msg: OldPay) -> int:
        self.emit(Paid(euros=msg.euros))
        return self.euros

    @event
    def paid(self, fact: Paid) -> None:
        self.euros += fact.euros


class Purse(Actor, kind="purse", version=2):
    cents: int = 0

    @command
    async def pay(self, msg: Pay) -> int:
        self.emit(PaidCents(cents=msg.cents))
        return self.cents

    @query
    async def read(self, msg: Read) -> int:
        return self.cents

    @event
    def paid(self, fact: PaidCents) -> None:
        self.cents += fact.cents


@upcast(Pay, "Pay")
@upcast(PaidCents, "Paid")
@upcast(Purse, 1)
def in_cents(old: Fields) -> Fields:
    return {"cents": old["euros"] * 100}


class Stranger(Actor, kind="purse"):
    cents: int = 0

    @command
    async def pay(self, msg: Pay) -> int:
        self.emit(Paid3(cents=msg.cents))
        return self.cents

    @event
    def paid(self, fact: Paid3) -> None:
        self.cents += fact.cents


class Note(Message[int]):
    text: str


class Break(Message[None]):
    pass


class Notes(Actor, persist="fields"):
    count: int = 0
    texts: list[str] = []

    @command
    async def note(self, msg: Note) -> int:
        self.count += 1
        self.texts.append(msg.text)
        return self.count

    @command
    async def spoil(self, msg: Break) -> None:
        self.texts.append("lost")
        wrong: Any = "many"
        self.count = wrong

    @query
    async def read(self, msg: Read) -> int:
        return len(self.texts)


def one(name: str, actor: type[Actor], policy: Policy = Policy()) -> System:  # noqa: B008 - a frozen value
    return System(name, actors=[Kind(actor=actor, policy=policy)]).checked()


async def test_a_new_build_folds_the_events_of_the_old_one(open_another: OpenBus, app_name: str) -> None:
    async with one(app_name, OldPurse).host(await open_another()) as node:
        assert await node.ref(OldPurse, "a").ask(OldPay(euros=2)) == 2
        assert await node.ref(OldPurse, "a").ask(OldPay(euros=3)) == 5
    async with one(app_name, Purse).host(await open_another()) as node:
        assert await node.ref(Purse, "a").ask(Read()) == 500
        assert await node.ref(Purse, "a").ask(Pay(cents=7)) == 507


async def test_a_new_build_goes_on_from_a_snapshot_of_the_old_one(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with one(app_name, OldPurse, EACH_ONE_A_SNAPSHOT).host(bus) as node:
        assert await node.ref(OldPurse, "a").ask(OldPay(euros=2)) == 2
        assert await node.ref(OldPurse, "a").ask(OldPay(euros=3)) == 5
    (snapshot,) = decode((await bus.log.read(Address("purse", "a")))[0].data, Record, "record").entries
    assert isinstance(snapshot, Snapshot)
    async with one(app_name, Purse, EACH_ONE_A_SNAPSHOT).host(await open_another()) as node:
        assert await node.ref(Purse, "a").ask(Pay(cents=7)) == 507
    async with one(app_name, Purse).host(await open_another()) as node:
        assert await node.ref(Purse, "a").ask(Read()) == 507


async def test_a_new_build_takes_a_message_of_the_old_form_from_the_mailbox(
    open_another: OpenBus, app_name: str
) -> None:
    bus = await open_another()
    await bus.mail.post("in", Address("purse", "a"), encode(OldPay(euros=2)), {headers.ID: "old"})
    async with one(app_name, Purse).host(await open_another()) as node:
        assert await node.ref(Purse, "a").ask(Pay(cents=7)) == 207


async def test_an_event_that_the_build_does_not_know_stops_this_actor_alone(
    open_another: OpenBus, app_name: str
) -> None:
    async with one(app_name, OldPurse).host(await open_another()) as node:
        assert await node.ref(OldPurse, "a").ask(OldPay(euros=2)) == 2
    async with one(app_name, Stranger).host(await open_another()) as node:
        with pytest.raises(AskFailed, match="Stranger has neither an @event method for 'Paid' nor an upcaster"):
            await node.ref(Stranger, "a").ask(Pay(cents=1))
        assert await node.ref(Stranger, "b").ask(Pay(cents=1)) == 1


async def test_assigned_fields_survive_the_host(open_another: OpenBus, app_name: str) -> None:
    async with one(app_name, Notes).host(await open_another()) as node:
        assert await node.ref(Notes, "a").ask(Note(text="x")) == 1
        assert await node.ref(Notes, "a").ask(Note(text="y")) == 2
    async with one(app_name, Notes).host(await open_another()) as node:
        assert await node.ref(Notes, "a").ask(Read()) == 2
        assert await node.ref(Notes, "a").ask(Note(text="z")) == 3


async def test_a_field_that_cannot_be_recorded_fails_the_turn_and_changes_nothing(bus: Bus, app_name: str) -> None:
    policy = Policy(backoff=Backoff(first_s=0.0), attempts_max=1)
    async with one(app_name, Notes, policy).host(bus) as node:
        assert await node.ref(Notes, "a").ask(Note(text="x")) == 1
        with pytest.raises(AskFailed, match=r"Notes\.count cannot be recorded with the str it holds"):
            await node.ref(Notes, "a").ask(Break())
        assert await node.ref(Notes, "a").ask(Read()) == 1
        assert await node.ref(Notes, "a").ask(Note(text="y")) == 2
