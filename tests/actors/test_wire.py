"""How things look in a NATS message."""

import msgspec
import pytest

from regrow.actors.errors import Failure, failure
from regrow.actors.image import Answer
from regrow.actors.records import Asked, Letter, Outcome
from regrow.actors.wire import (
    address_of,
    answer_message,
    answered,
    ask_headers,
    chain_of,
    is_reply,
    is_timer,
    letter_of,
    outcome_of,
    promoted_headers,
    relay_headers,
    relay_id,
    relay_mark,
    reply_message,
    reply_subject,
    timer_headers,
    undecodable,
)
from regrow.bus import Address, Box, Request, Undecodable, headers


class Post:
    def __init__(self, box: Box, given: dict[str, str], body: bytes = b"{}") -> None:
        self.box: Box = box
        self.sequence = 7
        self.address = Address("k", "a")
        self.headers = given
        self.body = body
        self.suspect = False

    def shed(self) -> None: ...

    async def fetch(self) -> bool:
        return True

    async def ack(self) -> None: ...


def test_a_letter_from_outside_may_say_only_its_id_and_where_to_reply() -> None:
    given = {
        headers.ID: "x",
        headers.REPLY: "_INBOX.a",
        headers.SENDER: "k/b",
        headers.CHAIN: "k=2Fb",
        headers.TYPE: "delete",
        headers.TIMER: "t",
        headers.SENT: "none",
    }
    assert letter_of(Post("in", given)) == Letter("in", 7, "x", msgspec.Raw(b"{}"), reply="_INBOX.a")


def test_a_letter_without_an_id_is_known_by_its_place() -> None:
    assert letter_of(Post("in", {})).id == "in-7"


def test_a_relay_has_a_sender_and_a_mark_and_an_ask_has_a_chain() -> None:
    sender = Address("k", "b c")
    relayed = letter_of(Post("act", relay_headers(sender, 50, relay_id("e", 3, 9, 2))))
    assert (relayed.sender, relayed.mark, relayed.sent_ms, relayed.type) == ("k=2Fb=20c", (9, 2), 50, "")
    assert address_of(relayed.sender) == sender
    asked = Asked("s", ("k", "a"), msgspec.Raw(b"{}"), 60, 70_000, ("k/a", "k/b,c"))
    question = letter_of(Post("act", ask_headers(sender, asked, "e.3.9.2")))
    assert (question.type, question.mark, question.sent_ms) == ("ask", (9, 2), 60)
    assert question.chain == ("k/a", "k/b,c")
    assert chain_of({}) == ()


def test_orders_of_the_runtime_are_known_by_their_type_and_only_in_its_own_mailbox() -> None:
    fired = Post("act", timer_headers("a b", "9-1"))
    assert is_timer(fired)
    assert not is_timer(Post("in", timer_headers("a b", "9-1")))
    letter = letter_of(fired)
    assert (letter.type, letter.timer, letter.id, letter.mark) == ("timer", "a b", "9-1", None)
    assert letter_of(Post("act", promoted_headers(Letter("in", 0, "x", msgspec.Raw(b"{}"))))).type == "promoted"
    assert letter_of(Post("act", {headers.TYPE: "delete"})).type == "delete"


def test_the_answer_to_a_durable_ask_names_the_ask() -> None:
    outcome = Outcome(failure=failure("refused", "no"))
    body, given, message_id = answer_message(Answer("k=2Fa", "e.3.9.2", outcome))
    came = Post("act", given, body)
    assert message_id == "e.3.9.2.reply"
    assert is_reply(came)
    assert not is_reply(Post("in", given, body))
    assert not is_reply(fired := Post("act", timer_headers("a", "9-1"))), fired
    assert answered(came) == ((9, 2), outcome)


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
