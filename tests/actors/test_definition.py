# Most classes here must not come into being.
# pyright: reportUnusedClass=false
"""What is checked when an actor class is made: one clear sentence for each mistake."""

from typing import Any, ClassVar

import msgspec
import pytest

from regrow.actors import Actor, Client, DefinitionError, Event, Message, System, command, event, query
from regrow.actors.actor import incarnate
from regrow.actors.definition import UnknownType, snake_case
from regrow.actors.message import reply_type
from regrow.bus import MemoryBus, Undecodable


class Add(Message[int]):
    amount: int


class Renamed(Message[None], tag="Renamed.v1"):
    pass


class Added(Event):
    amount: int


class Plain(msgspec.Struct, frozen=True):
    amount: int


def test_a_command_must_return_what_its_message_is_answered_with() -> None:
    with pytest.raises(DefinitionError, match=r"Wrong\.add returns str, but Add is answered with int; annotate -> int"):

        class Wrong(Actor):
            @command
            async def add(self, msg: Add) -> str:
                return str(msg.amount)


def test_a_command_must_annotate_what_it_returns() -> None:
    with pytest.raises(DefinitionError, match="returns nothing annotated, but Add is answered with int"):

        class Wrong(Actor):
            @command
            async def add(self, msg: Add):  # type: ignore[no-untyped-def]
                return msg.amount


def test_a_command_must_be_async() -> None:
    with pytest.raises(DefinitionError, match=r"Wrong\.add is an @command: make it async def"):

        class Wrong(Actor):
            @command
            def add(self, msg: Add) -> int:
                return msg.amount


def test_a_query_must_be_async() -> None:
    with pytest.raises(DefinitionError, match="is an @query: make it async def"):

        class Wrong(Actor):
            @query
            def add(self, msg: Add) -> int:
                return msg.amount


def test_an_event_must_be_a_plain_function() -> None:
    with pytest.raises(DefinitionError, match="make it a plain function, for it runs in the fold"):

        class Wrong(Actor):
            @event
            async def added(self, fact: Added) -> None: ...


def test_an_event_returns_nothing() -> None:
    with pytest.raises(DefinitionError, match="returns int, but Added is answered with None"):

        class Wrong(Actor):
            @event
            def added(self, fact: Added) -> int:
                return fact.amount


def test_a_command_takes_a_message() -> None:
    with pytest.raises(DefinitionError, match="takes Added, which is no Message; an @command takes one"):

        class Wrong(Actor):
            @command
            async def add(self, msg: Added) -> None: ...


def test_a_handler_takes_one_annotated_argument() -> None:
    with pytest.raises(DefinitionError, match="must take self and one annotated Message"):

        class Wrong(Actor):
            @command
            async def add(self, msg) -> int:  # type: ignore[no-untyped-def]
                return 1


def test_two_handlers_of_one_message_are_one_too_many() -> None:
    with pytest.raises(DefinitionError, match="both add and again handle Add; keep one"):

        class Wrong(Actor):
            @command
            async def add(self, msg: Add) -> int:
                return 1

            @command
            async def again(self, msg: Add) -> int:
                return 2


def test_a_handler_may_not_name_what_is_defined_below() -> None:
    with pytest.raises(DefinitionError, match="the annotation names 'Later', which is not defined above the class"):

        class Wrong(Actor):
            @command
            async def add(self, msg: "Later") -> int:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
                return 1


def test_a_field_may_not_name_what_is_defined_below() -> None:
    with pytest.raises(DefinitionError, match="a field names 'Later', which is not defined above the class"):

        class Wrong(Actor):
            count: "Later" = 0  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


def test_state_needs_a_default() -> None:
    with pytest.raises(DefinitionError, match=r"Wrong\.total is state and needs a default: an actor begins with"):

        class Wrong(Actor):
            total: int


def test_state_must_be_json() -> None:
    with pytest.raises(DefinitionError, match="the state of Wrong cannot be recorded"):

        class Wrong(Actor):
            total: object = object()


def test_a_default_must_fit_its_type() -> None:
    with pytest.raises(DefinitionError, match=r"the state of Wrong cannot be recorded: .*Expected `int`, got `str`"):

        class Wrong(Actor):
            total: int = "0"  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


def test_a_default_must_come_back_from_json_as_it_was() -> None:
    with pytest.raises(DefinitionError, match="the state of Wrong does not come back from JSON as it was"):

        class Wrong(Actor):
            total: Any = (1, 2)


def test_a_mutable_default_with_content_is_refused() -> None:
    with pytest.raises(DefinitionError, match="Wrong: Using a non-empty mutable collection"):

        class Wrong(Actor):
            names: list[str] = ["a"]


def test_a_field_of_a_message_may_not_be_called_type() -> None:
    with pytest.raises(DefinitionError, match=r"Wrong\.type: the field name 'type' carries the class name on the wire"):

        class Wrong(Message[int]):
            type: str


def test_a_field_of_an_event_may_not_be_called_type() -> None:
    with pytest.raises(DefinitionError, match=r"Wrong\.type: the field name 'type' carries"):

        class Wrong(Event):
            type: str


def test_a_message_says_what_it_is_answered_with() -> None:
    class Silent(Message):  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument]
        pass

    with pytest.raises(
        DefinitionError, match=r"Silent must say what it is answered with: class Silent\(Message\[int\]\)"
    ):

        class Wrong(Actor):
            @command
            async def ask(self, msg: Silent) -> None: ...


def test_a_kind_must_fit_into_a_subject() -> None:
    with pytest.raises(DefinitionError, match=r"Wrong: the kind 'a\.b' may hold only letters"):

        class Wrong(Actor, kind="a.b"):
            pass


def test_a_message_without_a_handler_is_named() -> None:
    class Deaf(Actor):
        pass

    with pytest.raises(DefinitionError, match="Deaf has no handler for Add; it accepts none"):
        Deaf.__regrow__.handler(Add(amount=1))


def test_a_message_below_another_is_answered_as_that_one() -> None:
    class More(Add):
        note: str = ""

    assert reply_type(More) is int


def test_messages_are_decoded_by_their_tag() -> None:
    class Counter(Actor):
        @command
        async def add(self, msg: Add) -> int:
            return msg.amount

        @query
        async def renamed(self, msg: Renamed) -> None: ...

    decode = Counter.__regrow__.decode_message
    assert decode(b'{"type":"Add","amount":2}') == Add(amount=2)
    assert decode(b'{"type":"Renamed.v1"}') == Renamed()
    with pytest.raises(UnknownType, match=r"counter knows no message 'Sub'; it accepts Add, Renamed\.v1"):
        decode(b'{"type":"Sub"}')
    with pytest.raises(UnknownType, match="counter knows no message ''"):
        decode(b"{}")
    with pytest.raises(
        Undecodable, match=r"message to counter cannot be decoded: Expected `int`, got `str` - at `\$.amount`"
    ):
        decode(b'{"type":"Add","amount":"2"}')
    with pytest.raises(Undecodable):
        decode(b"nonsense")


def test_an_actor_without_handlers_accepts_nothing_and_folds_nothing() -> None:
    class Deaf(Actor):
        pass

    with pytest.raises(UnknownType, match="deaf accepts no messages"):
        Deaf.__regrow__.decode_message(b"{}")
    with pytest.raises(Undecodable, match="Deaf has no @event method"):
        Deaf.__regrow__.decode_event(msgspec.Raw(b"{}"))


def test_a_mutable_default_is_each_actors_own() -> None:
    class Shopper(Actor):
        names: list[str] = []
        prices: dict[str, int] = {}
        plain: Plain = Plain(1)

    one, other = (incarnate(Shopper, Shopper.__regrow__.fresh_state(), "a") for _ in range(2))
    one.names.append("x")
    one.prices["x"] = 1
    assert (other.names, other.prices) == ([], {})
    assert (Shopper.names, Shopper.prices) == ([], {})


def test_what_begins_with_an_underscore_or_is_a_class_variable_is_no_state() -> None:
    class Counter(Actor):
        limit: ClassVar[int] = 3
        bare: ClassVar = 4
        _cached: int = 0
        total: int = 0

    assert Counter.__regrow__.fields == ("total",)


def test_an_actor_inherits_state_and_handlers() -> None:
    class Base(Actor):
        total: int = 0

        @command
        async def add(self, msg: Add) -> int:
            return msg.amount

    class Derived(Base):
        names: list[str] = []

    assert set(Derived.__regrow__.fields) == {"total", "names"}
    assert list(Derived.__regrow__.commands) == [Add]
    assert Derived.__regrow__.kind == "derived"


def test_a_class_made_in_a_function_sees_the_names_there_also_through_a_base_with_a_hook() -> None:
    class Local(Message[int]):
        pass

    class Hooked(Actor):
        def __init_subclass__(cls, **options: Any) -> None:
            super().__init_subclass__(**options)

    class Counter(Hooked):
        @command
        async def local(self, msg: "Local") -> "int":
            return 1

    assert list(Counter.__regrow__.commands) == [Local]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Counter", "counter"), ("TripPlanner", "trip_planner"), ("HTTPProbe", "http_probe"), ("A2B", "a2_b")],
)
def test_a_kind_is_the_snake_case_of_the_class_name(name: str, kind: str) -> None:
    assert snake_case(name) == kind


@pytest.mark.parametrize("wrong", ["Purse", object, 3])
def test_a_reference_wants_the_actor_class_itself(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="is no actor class"):
        Client(MemoryBus("wrong")).ref(wrong, "a")
    with pytest.raises(DefinitionError, match="is no actor class"):
        System("wrong", [wrong])


def test_a_key_that_is_no_text_says_so() -> None:
    class Keyed(Actor):
        pass

    key: Any = 7
    with pytest.raises(ValueError, match=r"the key of an actor is text, not 7; write str"):
        Client(MemoryBus("wrong")).ref(Keyed, key)


def test_a_system_wants_a_list_of_actor_classes() -> None:
    class Alone(Actor):
        pass

    alone: Any = Alone
    with pytest.raises(DefinitionError, match="takes a list of actor classes"):
        System("wrong", alone)
