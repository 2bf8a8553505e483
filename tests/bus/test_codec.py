"""JSON on the wire: strict both ways, and nothing that anybody sends is a defect."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.bus.codec import decode, encode, has_id, record_id
from regrow.bus.errors import Undecodable

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Add(msgspec.Struct, tag=True):
    amount: int
    note: str = ""


@given(JSON)
def test_any_json_value_comes_back(value: object) -> None:
    assert decode(encode(value), object) == value


@given(st.dictionaries(st.text(), st.integers(-9, 9), max_size=6))
def test_equal_values_give_equal_bytes(value: dict[str, int]) -> None:
    assert encode(dict(reversed(value.items()))) == encode(value)


@given(st.integers(-(2**63), 2**63 - 1), st.text())
def test_a_struct_comes_back(amount: int, note: str) -> None:
    assert decode(encode(Add(amount, note)), Add) == Add(amount, note)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_undecodable(data: bytes) -> None:
    for kind in (Add, object, str):
        try:
            decode(data, kind)
        except Undecodable as error:
            assert error.what == "message"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'"\xff"',
        b'{"type":"Add","amount":"2"}',
        b'{"type":"Add","amount":2.5}',
        b'{"type":"Sub","amount":2}',
        b'{"type":"Add"}',
        b'{"type":"Add","amount":1,"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ],
)
def test_what_does_not_fit_is_undecodable(data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(data, Add)


def test_undecodable_names_what_and_the_field() -> None:
    with pytest.raises(Undecodable, match=r"mail cannot be decoded: .*amount"):
        decode(b'{"type":"Add","amount":"2"}', Add, "mail")


def test_raw_parts_decode_as_well() -> None:
    assert decode(msgspec.Raw(b"[1,2]"), list[int]) == [1, 2]


def test_a_record_is_known_by_its_id() -> None:
    data = encode({"v": 1, "rid": "r-7", "entries": []})
    assert record_id(data) == "r-7"
    assert has_id(data, "r-7")
    assert not has_id(data, "r-8")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"rid":7}', b'{"rid":"\xff"}'])
def test_what_is_no_record_has_no_id(data: bytes) -> None:
    assert not has_id(data, "r-7")
    with pytest.raises(Undecodable, match="record"):
        record_id(data)
