# Most classes here must not come into being.
# pyright: reportUnusedClass=false
"""``persist="fields"``: what a turn assigned is found, checked, recorded as one built-in event, and read again."""

from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regrow.actors import (
    Actor,
    ActorError,
    DefinitionError,
    Event,
    Message,
    StateChangedOutsideEvent,
    command,
    event,
    query,
)
from regrow.actors.actor import Scope, apply_recorded, incarnate, state_of
from regrow.actors.fields import changes
from regrow.actors.upcast import upcast
from regrow.bus import Undecodable, encode

RUNNING = cast(Scope, object())
"""Stands for a running turn; assigning needs no more of it than that it is there."""


class Item(msgspec.Struct):
    name: str
    count: int = 1


class Add(Message[int]):
    amount: int


class Show(Message[int]):
    pass


class Added(Event):
    amount: int


class Basket(Actor, persist="fields"):
    total: int = 0
    ratio: float = 0.0
    note: str | None = None
    names: list[str] = []
    items: dict[str, Item] = {}
    anything: Any = None

    @command
    async def add(self, msg: Add) -> int:
        self.total += msg.amount
        return self.total

    @query
    async def show(self, msg: Show) -> int:
        self.total += 1
        return self.total


def running() -> tuple[msgspec.Struct, Basket]:
    """The committed state, and an actor in a turn that begins with it."""
    fresh = Basket.__regrow__.fresh_state
    return fresh(), incarnate(Basket, fresh(), "a", RUNNING)


def recorded(before: msgspec.Struct, after: Actor) -> dict[str, Any]:
    change = changes(before, after)
    assert change is not None
    found: dict[str, Any] = msgspec.json.decode(change)
    return found


# What is recorded


def test_a_turn_that_changes_nothing_records_nothing() -> None:
    before, basket = running()
    basket.total = 0
    basket.names = []
    assert changes(before, basket) is None


async def _add(basket: Basket, amount: int) -> int:
    return await basket.add(Add(amount=amount))


@pytest.mark.asyncio
async def test_only_the_fields_that_differ_are_recorded() -> None:
    before, basket = running()
    assert await _add(basket, 3) == 3
    assert recorded(before, basket) == {"type": "FieldsChanged", "fields": {"total": 3}}


def test_a_change_in_place_is_found() -> None:
    before, basket = running()
    basket.names.append("x")
    basket.items["a"] = Item("a")
    change = changes(before, basket)
    assert change is not None
    again = incarnate(Basket, Basket.__regrow__.fresh_state(), "a")
    apply_recorded(again, change)
    assert (again.names, again.items) == (["x"], {"a": Item("a")})


def test_a_change_deep_inside_a_field_is_found() -> None:
    before, basket = running()
    basket.items["a"] = Item("a")
    first = changes(before, basket)
    assert first is not None
    middle = incarnate(Basket, Basket.__regrow__.fresh_state(), "a")
    apply_recorded(middle, first)
    basket.items["a"].count = 5
    assert recorded(state_of(middle), basket)["fields"] == {"items": {"a": {"name": "a", "count": 5}}}


def test_a_field_set_back_to_none_is_recorded_as_that() -> None:
    _, basket = running()
    before = Basket.__regrow__.state_type(note="x")
    assert recorded(before, basket)["fields"] == {"note": None}


def test_the_actor_goes_on_with_what_will_be_read_from_the_log() -> None:
    before, basket = running()
    basket.ratio = 2
    basket.names = kept = ["a"]
    assert recorded(before, basket)["fields"] == {"ratio": 2.0, "names": ["a"]}
    assert isinstance(basket.ratio, float)
    kept.append("b")
    assert basket.names == ["a"]


def test_a_value_that_is_the_same_once_recorded_is_no_change() -> None:
    before, basket = running()
    basket.ratio = 0
    assert changes(before, basket) is None
    assert isinstance(basket.ratio, float)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("total", "3", r"Basket\.total cannot be recorded with the str it holds: Expected `int`, got `str`"),
        ("names", [1], r"Basket\.names cannot be recorded with the list it holds: Expected `str`, got `int`"),
        (
            "ratio",
            float("nan"),
            r"Basket\.ratio cannot be recorded with the float it holds: Expected `float`, got `null`",
        ),
        ("anything", object(), r"Basket\.anything cannot be recorded with the object it holds: .*unsupported"),
        ("anything", (1, 2), r"Basket\.anything cannot be recorded with the tuple it holds: .* back from JSON as list"),
        ("note", "\ud800", r"Basket\.note cannot be recorded with the str it holds: "),
    ],
)
def test_a_value_that_does_not_fit_names_field_and_type(field: str, value: Any, sentence: str) -> None:
    before, basket = running()
    setattr(basket, field, value)
    with pytest.raises(DefinitionError, match=sentence):
        changes(before, basket)


UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long it takes is the machine's affair."""
TEXT = st.text('aö"\\', max_size=4)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "total": st.integers(-(2**63), 2**63 - 1),
        "ratio": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
        "note": st.none() | TEXT,
        "names": st.lists(TEXT, max_size=3),
        "anything": st.recursive(
            st.none() | st.booleans() | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5
        ),
    },
)


@UNTIMED
@given(st.lists(VALUES, max_size=5))
def test_the_fold_of_the_changes_is_the_state(turns: list[dict[str, Any]]) -> None:
    _, basket = running()
    folded = incarnate(Basket, Basket.__regrow__.fresh_state(), "a")
    for turn in turns:
        for name, value in turn.items():
            setattr(basket, name, value)
        change = changes(state_of(folded), basket)
        if change is not None:
            apply_recorded(folded, change)
        assert encode(state_of(folded)) == encode(state_of(basket))
        assert changes(state_of(folded), basket) is None


# Where fields may be assigned


def test_fields_are_not_assigned_from_outside() -> None:
    basket = incarnate(Basket, Basket.__regrow__.fresh_state(), "a")
    with pytest.raises(StateChangedOutsideEvent, match=r"Basket\.total is state: assign it only in a running @command"):
        basket.total = 3
    assert basket.total == 0


@pytest.mark.asyncio
async def test_fields_are_not_assigned_in_a_query() -> None:
    basket = incarnate(Basket, Basket.__regrow__.fresh_state(), "a")
    with pytest.raises(StateChangedOutsideEvent, match="not in a @query"):
        await basket.show(Show())


def test_what_is_no_field_is_not_assigned() -> None:
    _, basket = running()
    wrong: Any = basket
    with pytest.raises(ActorError, match=r"Basket\.totl is no field and would be lost; declare it in the class"):
        wrong.totl = 3


def test_a_field_is_not_deleted() -> None:
    _, basket = running()
    with pytest.raises(ActorError, match=r"Basket\.total cannot be deleted"):
        del basket.total


def test_such_an_actor_emits_nothing() -> None:
    _, basket = running()
    with pytest.raises(ActorError, match='Basket is persist="fields" and emits nothing: assign its fields'):
        basket.emit(Added(amount=1))


def test_an_event_method_in_such_a_class_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r'Wrong\.added is an @event, but Wrong is persist="fields": assign'):

        class Wrong(Actor, persist="fields"):
            @event
            def added(self, fact: Added) -> None: ...


def test_a_class_below_keeps_how_it_is_recorded() -> None:
    class Bag(Basket):
        pass

    class Plain(Actor):
        pass

    assert (Bag.__regrow__.persist, Plain.__regrow__.persist) == ("fields", "events")


def test_there_is_no_third_way_to_persist() -> None:
    wrong: Any = "memory"
    with pytest.raises(DefinitionError, match=r'Wrong: persist is "events" or "fields", not \'memory\''):

        class Wrong(Actor, persist=wrong):
            pass


# Reading the log


def test_a_user_event_of_that_name_is_the_users_own() -> None:
    class FieldsChanged(Event):
        fields: dict[str, int]

    class Farm(Actor):
        total: int = 0

        @event
        def changed(self, fact: FieldsChanged) -> None:
            self.total += sum(fact.fields.values())

    farm = incarnate(Farm, Farm.__regrow__.fresh_state(), "a")
    apply_recorded(farm, msgspec.Raw(b'{"type":"FieldsChanged","fields":{"total":3,"other":4}}'))
    assert farm.total == 7


def test_a_class_that_went_over_to_events_reads_its_old_changes_through_an_upcaster() -> None:
    class Counted(Event):
        total: int

    @upcast(Counted, "FieldsChanged")
    def counted(old: dict[str, Any]) -> dict[str, Any]:
        return {"total": old["fields"]["total"]}

    assert counted({"fields": {"total": 1}}) == {"total": 1}

    class Counter(Actor):
        total: int = 0

        @event
        def counted(self, fact: Counted) -> None:
            self.total = fact.total

    counter = incarnate(Counter, Counter.__regrow__.fresh_state(), "a")
    apply_recorded(counter, msgspec.Raw(b'{"type":"FieldsChanged","fields":{"total":3}}'))
    assert counter.total == 3


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'{"type":"Added","amount":1}', "event of basket cannot be decoded: .*'Added'"),
        (b'{"type":"FieldsChanged","fields":{"sum":1}}', "FieldsChanged of version 1: .*unknown field `sum`"),
        (b'{"type":"FieldsChanged","fields":{"total":"1"}}', "FieldsChanged of version 1: Expected `int`, got `str`"),
        (b'{"type":"FieldsChanged","fields":[]}', "FieldsChanged of version 1: Expected `object`"),
        (b'{"type":"FieldsChanged","fields":{},"version":2}', "it is of version 2, and this build reads up to 1"),
    ],
)
def test_a_change_that_does_not_fit_is_undecodable_and_changes_nothing(data: bytes, sentence: str) -> None:
    basket = incarnate(Basket, Basket.__regrow__.fresh_state(), "a")
    before = encode(state_of(basket))
    with pytest.raises(Undecodable, match=sentence):
        apply_recorded(basket, msgspec.Raw(data))
    assert encode(state_of(basket)) == before


class Account(Actor, persist="fields", version=2):
    cents: int = 0
    owner: str = ""


@upcast(Account, 1)
def in_cents(old: dict[str, Any]) -> dict[str, Any]:
    newer = {name: value for name, value in old.items() if name != "euros"}
    if "euros" in old:
        newer["cents"] = old["euros"] * 100
    return newer


def test_a_change_of_an_older_version_passes_the_upcasters_of_the_state() -> None:
    account = incarnate(Account, Account.__regrow__.fresh_state(), "a")
    apply_recorded(account, msgspec.Raw(b'{"type":"FieldsChanged","fields":{"euros":3}}'))
    apply_recorded(account, msgspec.Raw(b'{"type":"FieldsChanged","fields":{"owner":"ann"}}'))
    assert (account.cents, account.owner) == (300, "ann")


def test_the_version_stands_in_a_change_where_it_is_not_the_first() -> None:
    account = incarnate(Account, Account.__regrow__.fresh_state(), "a", RUNNING)
    account.cents = 5
    change = recorded(Account.__regrow__.fresh_state(), account)
    assert change == {"type": "FieldsChanged", "fields": {"cents": 5}, "version": 2}
    again = incarnate(Account, Account.__regrow__.fresh_state(), "a")
    apply_recorded(again, msgspec.Raw(encode(change)))
    assert again.cents == 5
