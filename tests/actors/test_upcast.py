# Some classes and functions here are only declared.
# pyright: reportUnusedClass=false, reportUnusedFunction=false
"""Older forms of events, messages and state: read through upcasters, or refused with one clear sentence."""

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regrow.actors import Actor, DefinitionError, Event, Message, command, event
from regrow.actors.actor import apply_recorded, incarnate, state_of
from regrow.actors.definition import Definition, UnknownType
from regrow.actors.upcast import upcast, upcasters_of
from regrow.bus import Undecodable, encode

Fields = dict[str, Any]


class Paid(Event, tag="Paid.v3"):
    cents: int
    currency: str
    note: str = ""


@upcast(Paid, "Paid.v1", to="Paid.v2")
def euros_to_cents(old: Fields) -> Fields:
    return {"cents": old["euros"] * 100}


@upcast(Paid, "Paid.v2", to="Paid.v3")
def add_currency(old: Fields) -> Fields:
    return {**old, "currency": "EUR"}


class Pay(Message[int], tag="Pay.v2"):
    cents: int


@upcast(Pay, "Pay")
def pay_in_cents(old: Fields) -> Fields:
    return {"cents": old["euros"] * 100}


class Purse(Actor, version=3):
    cents: int = 0
    owner: str = ""
    log: list[str] = []

    @command
    async def pay(self, msg: Pay) -> int:
        return msg.cents

    @event
    def paid(self, fact: Paid) -> None:
        self.cents += fact.cents
        self.log.append(f"{fact.currency}{fact.note}")


@upcast(Purse, 1)
def state_in_cents(old: Fields) -> Fields:
    return {"cents": old["euros"] * 100, "name": old["name"]}


@upcast(Purse, 2)
def state_with_owner(old: Fields) -> Fields:
    return {"cents": old["cents"], "owner": old["name"]}


PURSE: Definition = Purse.__regrow__


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


def event_of(kind: type[Event]) -> Definition:
    """The definition of an actor that folds this event alone."""

    def happened(self: Actor, fact: Any) -> None: ...

    happened.__annotations__ = {"fact": kind, "return": None}
    made: type[Actor] = type("Folds", (Actor,), {"happened": event(happened)})
    return made.__regrow__


def unchanged(old: Fields) -> Fields:
    return old


# Events


def test_an_event_of_this_build_is_read_as_it_is() -> None:
    assert PURSE.decode_event(raw({"type": "Paid.v3", "cents": 1, "currency": "SEK"})) == Paid(cents=1, currency="SEK")


def test_an_older_event_passes_every_upcaster_up_to_today() -> None:
    assert PURSE.decode_event(raw({"type": "Paid.v1", "euros": 2})) == Paid(cents=200, currency="EUR")
    assert PURSE.decode_event(raw({"type": "Paid.v2", "cents": 7})) == Paid(cents=7, currency="EUR")


def test_a_log_with_all_forms_folds_to_one_state() -> None:
    purse = incarnate(Purse, PURSE.fresh_state(), "a")
    for fact in (
        {"type": "Paid.v1", "euros": 1},
        {"type": "Paid.v2", "cents": 20},
        {"type": "Paid.v3", "cents": 3, "currency": "SEK", "note": "!"},
    ):
        apply_recorded(purse, raw(fact))
    assert (purse.cents, purse.log) == (123, ["EUR", "EUR", "SEK!"])


def test_a_field_with_a_default_that_was_added_needs_no_upcaster() -> None:
    assert PURSE.decode_event(raw({"type": "Paid.v3", "cents": 1, "currency": "EUR"})) == Paid(cents=1, currency="EUR")
    assert PURSE.decode_state(raw({"cents": 4}), 3) == PURSE.state_type(cents=4, owner="", log=[])


def test_a_renamed_event_class_may_keep_its_tag_and_then_needs_no_upcaster() -> None:
    class Deposited(Event, tag="Added"):
        amount: int

    assert event_of(Deposited).decode_event(raw({"type": "Added", "amount": 2})) == Deposited(amount=2)


def test_a_renamed_event_class_reads_its_old_name_through_an_upcaster() -> None:
    class Deposited(Event):
        amount: int

    @upcast(Deposited, "Added")
    def renamed(old: Fields) -> Fields:
        return old

    assert event_of(Deposited).decode_event(raw({"type": "Added", "amount": 2})) == Deposited(amount=2)


def test_an_upcaster_may_lead_to_another_event_of_the_actor() -> None:
    class Lent(Event):
        amount: int

    class Given(Event):
        amount: int

    @upcast(Lent, "Moved", to="Given")
    def moved(old: Fields) -> Fields:
        return {**old, "type": "Given"}

    class Lender(Actor):
        @event
        def lent(self, fact: Lent) -> None: ...

        @event
        def given(self, fact: Given) -> None: ...

    assert Lender.__regrow__.decode_event(raw({"type": "Moved", "amount": 1})) == Given(amount=1)


def test_the_upcaster_gets_the_fields_without_the_type() -> None:
    class Seen(Event):
        names: list[str]

    @upcast(Seen, "Seen.v0")
    def which(old: Fields) -> Fields:
        return {"names": sorted(old)}

    assert event_of(Seen).decode_event(raw({"type": "Seen.v0", "b": 1, "a": 2})) == Seen(names=["a", "b"])


def test_an_event_below_another_does_not_inherit_its_upcasters() -> None:
    class PaidTwice(Paid, tag="PaidTwice"):
        pass

    assert upcasters_of(PaidTwice) == {}
    with pytest.raises(Undecodable, match=r"nor an upcaster that reads it"):
        event_of(PaidTwice).decode_event(raw({"type": "Paid.v2", "cents": 7}))


def test_an_unknown_event_is_named() -> None:
    with pytest.raises(
        Undecodable,
        match=r"event of purse .*Purse has neither an @event method for 'Lost' nor an upcaster that reads it",
    ):
        PURSE.decode_event(raw({"type": "Lost"}))


def test_an_event_of_today_that_does_not_fit_names_the_field() -> None:
    with pytest.raises(Undecodable, match=r"Expected `int`, got `str` - at `\$.cents`"):
        PURSE.decode_event(raw({"type": "Paid.v3", "cents": "1", "currency": "EUR"}))


@pytest.mark.parametrize("broken", [b"", b"[]", b"1", b'{"type":1}', b'{"type":"Paid.v1"'])
def test_what_is_no_event_at_all_is_undecodable(broken: bytes) -> None:
    with pytest.raises(Undecodable, match="event of purse"):
        PURSE.decode_event(msgspec.Raw(broken))


# Messages


def test_an_older_message_is_read_through_its_upcaster() -> None:
    assert PURSE.decode_message(b'{"type":"Pay","euros":3}') == Pay(cents=300)
    assert PURSE.decode_message(b'{"type":"Pay.v2","cents":3}') == Pay(cents=3)


def test_an_older_message_that_its_upcaster_cannot_read_is_no_unknown_one() -> None:
    with pytest.raises(Undecodable, match=r"message to purse, recorded as 'Pay', .*pay_in_cents failed") as caught:
        PURSE.decode_message(b'{"type":"Pay"}')
    assert not isinstance(caught.value, UnknownType)


def test_an_unknown_message_is_answered_with_what_is_accepted_today() -> None:
    with pytest.raises(UnknownType, match=r"purse knows no message 'Buy'; it accepts Pay\.v2"):
        PURSE.decode_message(b'{"type":"Buy"}')


# State


def test_state_of_an_older_version_passes_every_upcaster_up_to_today() -> None:
    expected = PURSE.state_type(cents=200, owner="ann", log=[])
    assert PURSE.decode_state(raw({"euros": 2, "name": "ann"}), 1) == expected
    assert PURSE.decode_state(raw({"cents": 200, "name": "ann"}), 2) == expected
    assert PURSE.decode_state(raw({"cents": 200, "owner": "ann"}), 3) == expected


def test_state_without_a_version_is_that_of_this_build() -> None:
    assert PURSE.version == 3
    assert PURSE.fresh_state() == PURSE.state_type()
    held = state_of(incarnate(Purse, PURSE.fresh_state(), "a"))
    assert PURSE.decode_state(raw(held)) == held


def test_a_class_below_has_a_version_of_its_own() -> None:
    class Bag(Purse):
        pass

    assert Bag.__regrow__.version == 1


def test_state_of_a_newer_build_is_refused() -> None:
    with pytest.raises(
        Undecodable, match="it is of version 4, and this build reads up to 3; run the build that wrote it"
    ):
        PURSE.decode_state(raw({}), 4)


def test_state_without_an_upcaster_says_which_one_to_write() -> None:
    class Gap(Actor, version=3):
        total: int = 0

    upcast(Gap, 2)(unchanged)
    with pytest.raises(Undecodable, match=r"no upcaster reads version 1; write @upcast\(Gap, 1\)"):
        Gap.__regrow__.decode_state(raw({"total": 1}), 1)


def test_a_state_field_that_the_class_does_not_have_is_not_lost_in_silence() -> None:
    with pytest.raises(Undecodable, match="unknown field `purpose`"):
        PURSE.decode_state(raw({"cents": 1, "purpose": "x"}), 3)


def test_state_that_does_not_fit_after_its_upcasters_names_the_version() -> None:
    with pytest.raises(Undecodable, match=r"Expected `str`.*recorded by version 2, this is 3"):
        PURSE.decode_state(raw({"cents": 1, "name": 5}), 2)


# What goes wrong in an upcaster


def returns_text(old: Fields) -> Fields:
    return {"amount": "1"}


def returns_a_list(old: Fields) -> Fields:
    return cast(Fields, [old])


def returns_nothing(old: Fields) -> Fields:
    return cast(Fields, None)


def returns_no_json(old: Fields) -> Fields:
    return {"amount": object()}


def raises(old: Fields) -> Fields:
    raise LookupError("no such rate")


def says_another_type(old: Fields) -> Fields:
    return {"amount": 1, "type": "Other"}


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (returns_a_list, "the upcaster returns_a_list returned list for 'Old'; it must return a dict"),
        (returns_nothing, "the upcaster returns_nothing returned NoneType for 'Old'; it must return a dict"),
        (returns_no_json, r"the upcaster returns_no_json failed on 'Old': TypeError\("),
        (raises, r"the upcaster raises failed on 'Old': LookupError\('no such rate'\)"),
        (says_another_type, "the upcaster says_another_type returned 'Other' as type, but leads to 'Added'"),
        (returns_text, r"recorded as 'Old', cannot be decoded: Expected `int`, got `str`"),
    ],
)
def test_an_upcaster_that_fails_makes_its_event_undecodable(
    function: Callable[[Fields], Fields], sentence: str
) -> None:
    class Added(Event):
        amount: int

    upcast(Added, "Old")(function)
    with pytest.raises(Undecodable, match=sentence) as caught:
        event_of(Added).decode_event(raw({"type": "Old"}))
    assert str(caught.value).startswith("event of folds, recorded as 'Old', cannot be decoded: ")


def test_a_failed_upcast_keeps_its_cause() -> None:
    class Added(Event):
        amount: int

    upcast(Added, "Old")(raises)
    with pytest.raises(Undecodable) as caught:
        event_of(Added).decode_event(raw({"type": "Old"}))
    assert isinstance(caught.value.__cause__, LookupError)


def test_an_upcaster_that_leads_nowhere_names_its_course() -> None:
    class Added(Event, tag="Added.v3"):
        amount: int

    upcast(Added, "Added.v1", to="Added.v2")(unchanged)
    with pytest.raises(Undecodable, match=r"Added\.v1 -> Added\.v2 leads no further: no upcaster reads 'Added\.v2'"):
        event_of(Added).decode_event(raw({"type": "Added.v1"}))


def test_upcasters_of_two_classes_that_run_in_a_circle_are_told() -> None:
    class One(Event):
        pass

    class Two(Event):
        pass

    class Both(Actor):
        @event
        def one(self, fact: One) -> None: ...

        @event
        def two(self, fact: Two) -> None: ...

    upcast(One, "A", to="B")(unchanged)
    upcast(Two, "B", to="A")(unchanged)
    with pytest.raises(Undecodable, match="the upcasters run in a circle: A -> B -> A"):
        Both.__regrow__.decode_event(raw({"type": "A"}))


def test_upcasters_of_two_classes_for_one_tag_are_told_whenever_they_were_declared() -> None:
    class One(Event):
        pass

    class Two(Event):
        pass

    def both() -> Definition:
        class Both(Actor):
            @event
            def one(self, fact: One) -> None: ...

            @event
            def two(self, fact: Two) -> None: ...

        return Both.__regrow__

    early = both()
    upcast(One, "Old")(returns_nothing)
    upcast(Two, "Old")(returns_no_json)
    with pytest.raises(Undecodable, match="both returns_nothing and returns_no_json read 'Old'; keep one upcaster"):
        early.decode_event(raw({"type": "Old"}))
    with pytest.raises(DefinitionError, match="Both: both returns_nothing and returns_no_json read 'Old'; keep one"):
        both()


# What is refused when it is declared


def test_an_upcaster_of_a_tag_that_another_class_of_the_actor_has_is_refused() -> None:
    class One(Event):
        pass

    class Two(Event):
        pass

    upcast(One, "Two")(unchanged)
    with pytest.raises(DefinitionError, match="Both: an upcaster of One reads 'Two', which is a tag in use"):

        class Both(Actor):
            @event
            def one(self, fact: One) -> None: ...

            @event
            def two(self, fact: Two) -> None: ...


def test_an_upcaster_of_the_current_tag_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"'Paid\.v3' is the tag of Paid today: an upcaster reads an older one"):
        upcast(Paid, "Paid.v3")(raises)


def test_a_second_upcaster_of_one_tag_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"Paid: both add_currency and raises read 'Paid\.v2'; keep one upcaster"):
        upcast(Paid, "Paid.v2", to="Paid.v3")(raises)


def test_a_circle_is_refused() -> None:
    class Added(Event):
        pass

    upcast(Added, "A", to="B")(unchanged)
    with pytest.raises(DefinitionError, match="Added: the upcaster raises of 'B' closes a circle"):
        upcast(Added, "B", to="A")(raises)
    with pytest.raises(DefinitionError, match="Added: the upcaster raises of 'C' closes a circle"):
        upcast(Added, "C", to="C")(raises)


def test_of_several_upcasters_each_says_where_it_leads() -> None:
    class Added(Event, tag="Added.v3"):
        pass

    upcast(Added, "Added.v1")(raises)
    with pytest.raises(
        DefinitionError, match=r"several upcasters, so raises must say .*: @upcast\(Added, 'Added\.v1', to=…\)"
    ):
        upcast(Added, "Added.v2", to="Added.v3")(returns_nothing)


def test_an_async_upcaster_is_refused() -> None:
    async def later(old: Fields) -> Fields:
        return old

    function: Any = later
    with pytest.raises(DefinitionError, match="later is async: make it a plain function"):
        upcast(Paid, "Paid.v0")(function)


@pytest.mark.parametrize("version", [0, 3, 4])
def test_an_upcaster_of_no_older_version_is_refused(version: int) -> None:
    with pytest.raises(
        DefinitionError, match=f"Purse is of version 3, so an upcaster of version {version} would never run"
    ):
        upcast(Purse, version)(raises)


def test_an_upcaster_of_a_first_version_is_refused() -> None:
    class First(Actor):
        pass

    with pytest.raises(DefinitionError, match=r"First is of version 1: .*class First\(Actor, version=2\)"):
        upcast(First, 1)(raises)


def test_a_second_upcaster_of_one_version_is_refused() -> None:
    with pytest.raises(DefinitionError, match="Purse: both state_in_cents and raises read 1; keep one upcaster"):
        upcast(Purse, 1)(raises)


@pytest.mark.parametrize(
    ("kind", "old", "sentence"),
    [
        (Paid, 1, "an upcaster of Paid takes the older tag that it reads, not 1"),
        (Purse, "1", "an upcaster of Purse takes the version that it reads, and leads to the next one"),
        (int, "a", "takes an Event, a Message or an Actor class, and int is none"),
        (3, "a", "takes an Event, a Message or an Actor class, and 3 is none"),
        (Actor, 1, "takes an Event, a Message or an Actor class, and Actor is none"),
    ],
)
def test_an_upcaster_hangs_on_what_is_recorded(kind: Any, old: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError, match=sentence):
        upcast(kind, old)(raises)


@pytest.mark.parametrize("version", [0, -1, True, "2", 1.0])
def test_a_version_is_a_whole_number_from_one(version: Any) -> None:
    with pytest.raises(DefinitionError, match="Wrong: the version of its state is a whole number from 1, not"):

        class Wrong(Actor, version=version):
            pass


# Chains of any length, declared in any order


class Step(msgspec.Struct, frozen=True):
    """What one version changed: a field's name, and what is added to its value."""

    name: str
    add: int


UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long it takes is the machine's affair."""
STEPS = st.lists(st.builds(Step, st.sampled_from("abcdef"), st.integers(-9, 9)), min_size=1, max_size=8)


def reader(step: Step) -> Callable[[Fields], Fields]:
    """The upcaster to this version: the one field, under its new name."""

    def read(old: Fields) -> Fields:
        ((_, value),) = old.items()
        return {step.name: value + step.add}

    return read


@UNTIMED
@given(STEPS, st.integers(-1000, 1000), st.data())
def test_an_event_of_any_version_is_read_as_its_steps_say(steps: list[Step], value: int, data: st.DataObject) -> None:
    last = len(steps)
    body: Fields = {"__annotations__": {steps[-1].name: int}}
    metaclass: Any = type(Event)
    kind = metaclass("Made", (Event,), body, tag=f"v{last}")
    for version in data.draw(st.permutations(range(last))):
        upcast(kind, f"v{version}", to=f"v{version + 1}")(reader(steps[version]))
    definition = event_of(kind)
    for version in range(last):
        fact = definition.decode_event(raw({"type": f"v{version}", "was": value}))
        expected = value + sum(step.add for step in steps[version:])
        assert fact == kind(**{steps[-1].name: expected})


@UNTIMED
@given(STEPS, st.integers(-1000, 1000), st.data())
def test_a_state_of_any_version_is_read_as_its_steps_say(steps: list[Step], value: int, data: st.DataObject) -> None:
    last = steps[-1].name
    body: Fields = {"__annotations__": {last: int}, last: 0}
    kind: Any = type("Made", (Actor,), body, version=len(steps) + 1)
    for version in data.draw(st.permutations(range(1, len(steps) + 1))):
        upcast(kind, version)(reader(steps[version - 1]))
    definition: Definition = kind.__regrow__
    for version in range(1, len(steps) + 1):
        state = definition.decode_state(raw({"was": value}), version)
        assert getattr(state, last) == value + sum(step.add for step in steps[version - 1 :])
