"""How things look in a NATS message."""

import msgspec
import pytest

from regrow.actors.errors import Failure, failure
from regrow.actors.records import Letter, Outcome
from regrow.actors.wire import (
    ask_id,
    asker_of,
    chain_header,
    chain_of,
    letter_of,
    outcome_of,
    relay_id,
    relay_mark,
    reply_message,
    reply_subject,
    undecodable,
)
from regrow.bus import Address, Box, Request, Undecodable, headers


class Post:
    def __init__(self, box: Box, given: dict[str, str]) -> None:
        self.box: Box = box
        self.sequence = 7
        self.address = Address("k", "a")
        self.headers = given
        self.body = b"{}"

    async def ack(self) -> None: ...


def test_a_letter_from_outside_may_say_only_its_id_and_where_to_reply() -> None:
    given = {headers.ID: "x", headers.REPLY: "_INBOX.a", headers.SENDER: "k/b", headers.CHAIN: "k=2Fb"}
    assert letter_of(Post("in", given)) == Letter("in", 7, "x", msgspec.Raw(b"{}"), reply="_INBOX.a")


def test_a_letter_without_an_id_is_known_by_its_place() -> None:
    assert letter_of(Post("in", {})).id == "in-7"


def test_a_relay_has_a_sender_and_a_mark_and_an_ask_has_a_chain() -> None:
    relayed = letter_of(Post("act", {headers.ID: relay_id("e", 3, 9, 2), headers.SENDER: "k=2Fb"}))
    assert (relayed.sender, relayed.mark) == ("k=2Fb", (9, 2))
    asked = letter_of(Post("act", {headers.ID: "k:in1:s", headers.CHAIN: chain_header(("k/a", "k/b"))}))
    assert (asked.chain, asked.mark) == (("k/a", "k/b"), None)
    assert chain_of({}) == ()


@pytest.mark.parametrize(
    ("subject", "allowed"),
    [
        ("_INBOX.x.y", True),
        ("rg.app.evt.1.counter.a", False),
        ("_INBOX.*", False),
        ("_INBOX.>", False),
        ("_INBOX. x", False),
        ("_INBOX.a\r\nPUB x", False),
        ("", False),
    ],
)
def test_replies_go_to_inboxes_only(subject: str, allowed: bool) -> None:
    assert reply_subject(subject) == (subject if allowed else "")


def test_ids_say_what_they_are_made_of() -> None:
    assert relay_mark(relay_id("epoch", 3, 9, 2)) == (9, 2)
    assert asker_of(ask_id("k/a:b", "in3", ".0/ask/x:y/0")) == ("k=2Fa=3Ab", "in3")
    assert asker_of("plain") is None


def test_a_value_is_its_json_and_a_failure_a_service_error() -> None:
    assert reply_message(Outcome(msgspec.Raw(b"3"))) == (b"3", None)
    assert reply_message(Outcome()) == (b"null", None)
    body, given = reply_message(Outcome(failure=failure("refused", "no\r\nfunds " + "x" * 300, left=2)))
    assert given is not None
    assert given[headers.ERROR].startswith("no funds xxx")
    assert len(given[headers.ERROR]) == 200
    assert given[headers.ERROR_CODE] == "409"
    assert outcome_of(Request("s", body, given, "")).failure == failure("refused", "no\r\nfunds " + "x" * 300, left=2)
    assert reply_message(Outcome(failure=failure("refused", "")))[1] == {
        headers.ERROR: "refused",
        headers.ERROR_CODE: "409",
    }


def test_a_reply_is_a_value_or_a_failure_also_one_of_a_foreign_service() -> None:
    assert outcome_of(Request("s", b"3", {}, "")) == Outcome(msgspec.Raw(b"3"))
    foreign = {headers.ERROR: "no", headers.ERROR_CODE: "418"}
    assert outcome_of(Request("s", b"teapot", foreign, "")).failure == Failure("error", 418, "no")
    assert outcome_of(Request("s", b"", {headers.ERROR: "no", headers.ERROR_CODE: "?"}, "")).failure == Failure(
        "error", 500, "no"
    )


def test_what_cannot_be_read_is_said_so() -> None:
    failed = undecodable(Undecodable("message", "why")).failure
    assert failed is not None
    assert (failed.kind, failed.code) == ("undecodable", 400)
