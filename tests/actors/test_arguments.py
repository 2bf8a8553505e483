"""Arguments as they are recorded, and the path of what cannot be."""

import dataclasses
from typing import Any

import msgspec
import pytest

from regrow.actors.arguments import encode_arguments, redacted


class Leg(msgspec.Struct):
    when: Any


@dataclasses.dataclass
class Route:
    legs: list[Leg]


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"route": Route([Leg(1), Leg(2j)])}, r"of fetch cannot be recorded: \$\.route\.legs\[1\]\.when is a complex"),
        ({"a": {"b": (1, {"c": object()})}}, r"\$\.a\.b\[1\]\.c is an object, which is no JSON"),
        ({"ids": {3j}}, r"\$\.ids\[0\] is a complex"),
        ({"text": "\ud800"}, r"\$\.text is a str"),
        (object(), r"recorded: \$ is an object"),
        ({"endless": LOOP}, r"\$\.endless\[0\]\[0\]"),
    ],
)
def test_what_is_no_json_is_named_by_its_path_and_type(arguments: object, sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        encode_arguments(arguments, "fetch")


def test_equal_arguments_are_equal_bytes() -> None:
    assert (
        encode_arguments({"b": 1, "a": 2}, "fetch") == encode_arguments({"a": 2, "b": 1}, "fetch") == b'{"a":2,"b":1}'
    )


def test_what_is_redacted_is_covered_and_the_rest_is_as_it_was() -> None:
    given = b'{"big":12345678901234567890123,"token":{"secret":[1]},"user":"anna"}'
    assert redacted(given, ("token",)) == b'{"big":12345678901234567890123,"token":"***","user":"anna"}'
