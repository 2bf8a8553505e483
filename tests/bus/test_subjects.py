"""The subject grammar: every text has one token, and the server files an actor where we say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.bus.subjects import (
    KEY_CHARS_MAX,
    LOG_STREAMS,
    SHARDS,
    Address,
    Subjects,
    check_address,
    check_name,
    check_subject,
    escape,
    fnv1a_32,
    log_number,
    shard_of,
    unescape,
)

KINDS = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
KEYS = st.text(min_size=1, max_size=30)
SHOP = Subjects("shop")
ALICE = Address("counter", "alice@example.org")


@given(st.text())
def test_unescape_gives_back_what_was_escaped(text: str) -> None:
    assert unescape(escape(text)) == text


@given(st.text(), st.text())
def test_distinct_texts_have_distinct_tokens(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(st.text(min_size=1))
def test_a_token_holds_only_what_subjects_and_buckets_allow(text: str) -> None:
    assert set(escape(text)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=")


@given(st.text())
def test_a_token_that_unescapes_is_the_only_one_for_its_text(token: str) -> None:
    try:
        text = unescape(token)
    except ValueError:
        return
    assert escape(text) == token


def test_bytes_outside_the_plain_ones_are_written_in_hex() -> None:
    assert escape("a.b c=ä") == "a=2Eb=20c=3D=C3=A4"


@pytest.mark.parametrize("token", ["=", "=4", "=zz", "=2e", "=41", "a.b", "ä", "=FF", "=C3", "a b"])
def test_a_token_that_no_text_gives_is_refused(token: str) -> None:
    with pytest.raises(ValueError):
        unescape(token)


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968), (b"b", 0xE70C2DE5)],
)
def test_fnv_gives_the_values_of_its_authors(data: bytes, value: int) -> None:
    assert fnv1a_32(data) == value


@given(st.binary(), st.integers(0, 255))
def test_fnv_folds_byte_by_byte(data: bytes, last: int) -> None:
    assert fnv1a_32(data + bytes([last])) == ((fnv1a_32(data) ^ last) * 0x01000193) % 2**32


@given(KINDS, KEYS)
def test_all_logs_of_a_shard_lie_in_one_stream(kind: str, key: str) -> None:
    address = Address(kind, key)
    assert 0 <= shard_of(address) < SHARDS
    assert log_number(address) == shard_of(address) % LOG_STREAMS


@given(KINDS, KEYS)
def test_every_subject_of_an_actor_leads_back_to_it(kind: str, key: str) -> None:
    address = Address(kind, key)
    subjects = [
        SHOP.log(address),
        SHOP.mail("in", address),
        SHOP.mail("act", address),
        SHOP.ask(address),
        SHOP.live(address),
        SHOP.query(address),
        SHOP.dead_letter(address),
    ]
    assert {Subjects.address(subject) for subject in subjects} == {address}
    assert all(check_subject(subject) == subject for subject in subjects)


def test_subjects_and_names_are_those_of_the_wire_format() -> None:
    tail = "counter.alice=40example=2Eorg"
    number, shard = log_number(ALICE), shard_of(ALICE)
    assert SHOP.log(ALICE) == f"rg.shop.evt.{number}.{tail}"
    assert SHOP.mail("in", ALICE) == f"rg.shop.in.{tail}"
    assert SHOP.mail("act", ALICE) == f"rg.shop.act.{tail}"
    assert SHOP.ask(ALICE) == f"rg.shop.ask.{tail}"
    assert SHOP.live(ALICE) == f"rg.shop.live.{tail}"
    assert SHOP.query(ALICE) == f"rg.shop.qry.{shard}.{tail}"
    assert SHOP.dead_letter(ALICE) == f"rg.shop.dlq.{tail}"
    assert SHOP.nobody(f"rg.shop.q.7.{tail}") == f"rg.shop.dlq.{tail}"
    assert SHOP.tool("search") == "rg.shop.tool.search"
    assert SHOP.asks("counter") == "rg.shop.ask.counter.*"
    assert SHOP.queries(3) == "rg.shop.qry.3.*.*"
    assert SHOP.stored("in", 3) == "rg.shop.q.3.>"
    assert SHOP.stored("act", 3) == "rg.shop.aq.3.>"
    assert SHOP.log_stream(15) == "RG_shop_EVT_15"
    assert SHOP.mail_stream("in") == "RG_shop_IN"
    assert SHOP.mail_stream("act") == "RG_shop_ACT"
    assert SHOP.dead_letter_stream == "RG_shop_DLQ"
    assert SHOP.lease_bucket == "rg_shop_leases"
    assert SHOP.lease_stream == "KV_rg_shop_leases"
    assert SHOP.node_bucket == "rg_shop_nodes"
    assert str(ALICE) == "counter/alice@example.org"


@pytest.mark.parametrize("name", ["", "a.b", "a b", "ä", "a\n", "*", ">"])
def test_a_name_that_the_server_would_misread_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        Subjects(name)
    with pytest.raises(ValueError):
        check_name("the tool", name)
    with pytest.raises(ValueError):
        SHOP.log(Address(name, "a"))


def test_a_key_may_be_anything_but_empty_or_endless() -> None:
    assert check_address(Address("k", "x" * KEY_CHARS_MAX)).kind == "k"
    with pytest.raises(ValueError, match="not empty"):
        check_address(Address("k", ""))
    with pytest.raises(ValueError, match="longer than"):
        check_address(Address("k", "ä" * (KEY_CHARS_MAX // 6 + 1)))


@pytest.mark.parametrize("subject", ["a", "_INBOX.x.1", "$JS.API.INFO", "ä.b"])
def test_a_plain_subject_may_be_published_to(subject: str) -> None:
    assert check_subject(subject) == subject


@pytest.mark.parametrize(
    "subject", ["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "a\r\nPUB x 0", "a\x00", "a\t", "a\u2028"]
)
def test_what_is_no_subject_is_not_published_to(subject: str) -> None:
    with pytest.raises(ValueError):
        check_subject(subject)


@pytest.mark.parametrize("subject", ["a", "a.b", "rg.shop.q.1.k.=zz"])
def test_a_subject_that_names_no_actor_is_refused(subject: str) -> None:
    with pytest.raises(ValueError):
        Subjects.address(subject)
