"""How messages, replies and failures look in a NATS message: pure translations, nothing is sent here."""

import re
from collections.abc import Mapping

import msgspec

from regrow.actors.errors import UNDECODABLE, Failure, failure
from regrow.actors.image import Answer
from regrow.actors.records import Asked, Letter, Outcome, Type
from regrow.bus import Address, Delivery, Request, Undecodable, decode, encode, escape, headers, unescape

_PUBLISHABLE = re.compile(r"[^\s.*>\x00-\x1f]+(\.[^\s.*>\x00-\x1f]+)+")

REPLY_PREFIX = "_INBOX."
"""Replies go only to subjects under this prefix: the caller chose the subject, and the runtime may write anywhere."""


ASK, REPLY, TIMER, PROMOTED, DELETE, WAKE, CANCEL = "ask", "reply", "timer", "promoted", "delete", "wake", "cancel"
"""What ``Rg-Type`` says of a message in the runtime's own mailbox; a relayed send says nothing."""

_TYPES: Mapping[str, Type] = {ASK: "ask", TIMER: "timer", PROMOTED: "promoted", DELETE: "delete"}


def letter_of(delivery: Delivery) -> Letter:
    """What came out of a mailbox. From the outside only id and reply subject count: the rest is the runtime's own."""
    given: Mapping[str, str] = delivery.headers
    message_id = given.get(headers.ID) or f"{delivery.box}-{delivery.sequence}"
    if delivery.box == "in":
        return Letter(
            box="in",
            sequence=delivery.sequence,
            id=message_id,
            body=msgspec.Raw(delivery.body),
            reply=reply_subject(given.get(headers.REPLY, "")),
        )
    sender = given.get(headers.SENDER, "")
    return Letter(
        box="act",
        sequence=delivery.sequence,
        id=message_id,
        body=msgspec.Raw(delivery.body),
        sender=sender,
        mark=relay_mark(message_id) if sender else None,
        sent_ms=int(given.get(headers.SENT, "0")),
        chain=chain_of(given),
        type=_TYPES.get(given.get(headers.TYPE, ""), ""),
        timer=unescape(given.get(headers.TIMER, "")),
    )


def is_reply(delivery: Delivery) -> bool:
    """Whether this is another actor's answer to an ask, which is no letter: the turn that asked takes it."""
    return delivery.box == "act" and delivery.headers.get(headers.TYPE) == REPLY


def is_order_to_end(delivery: Delivery) -> bool:
    """Whether somebody outside wants the running turn to end, which is no letter: it overtakes all mail."""
    return delivery.box == "act" and delivery.headers.get(headers.TYPE) == CANCEL


def reason_of(order: Delivery) -> str:
    """Why the turn is to end."""
    try:
        return decode(order.body, str, "reason")
    except Undecodable:
        return ""


def is_timer(delivery: Delivery) -> bool:
    """Whether this is a timer of the actor that fired."""
    return delivery.box == "act" and delivery.headers.get(headers.TYPE) == TIMER


def is_wake(delivery: Delivery) -> bool:
    """Whether a wait of the actor's open turn is over by now, which is no letter either."""
    return delivery.box == "act" and delivery.headers.get(headers.TYPE) == WAKE


def relay_headers(sender: Address, sent_ms: int, message_id: str) -> dict[str, str]:
    """Headers of a relayed message."""
    return {headers.ID: message_id, headers.SENDER: escape(str(sender)), headers.SENT: str(sent_ms)}


def ask_headers(sender: Address, asked: Asked, message_id: str) -> dict[str, str]:
    """Headers of a durable ask."""
    chain = ",".join(escape(each) for each in asked.chain)
    given = relay_headers(sender, asked.at_ms, message_id)
    return {**given, headers.TYPE: ASK, headers.CHAIN: chain, headers.DEADLINE: str(asked.deadline_ms / 1000)}


def timer_headers(name: str, timer: str) -> dict[str, str]:
    """Headers of a message that comes back when it is due."""
    return {headers.ID: timer, headers.TYPE: TIMER, headers.TIMER: escape(name)}


def wake_headers(timer: str) -> dict[str, str]:
    """Headers of the message that ends a wait at its time."""
    return {headers.ID: timer, headers.TYPE: WAKE}


def promoted_headers(letter: Letter) -> dict[str, str]:
    """Headers of an ask of the actor's own process that is put into its mailbox after all."""
    return {headers.ID: letter.id, headers.TYPE: PROMOTED}


def answer_message(answer: Answer) -> tuple[bytes, dict[str, str], str]:
    """Body, headers and message id of the reply to a durable ask."""
    body = encode(answer.outcome)
    return body, {headers.TYPE: REPLY, headers.CORRELATION: answer.id}, f"{answer.id}.reply"


def answered(delivery: Delivery) -> tuple[tuple[int, int], Outcome]:
    """The mark of the ask that a reply answers, and the outcome in it. Raises ``Undecodable`` and ValueError."""
    mark = relay_mark(delivery.headers.get(headers.CORRELATION, ""))
    return mark, decode(delivery.body, Outcome, "reply")


def reply_subject(subject: str) -> str:
    """The subject itself when a reply may go there, else the empty one: it was chosen by the caller, and may be anything."""
    return subject if subject.startswith(REPLY_PREFIX) and _PUBLISHABLE.fullmatch(subject) else ""


def relay_id(epoch: str, log_number: int, sequence: int, index: int) -> str:
    """The id of a send: never reused, for a log stream's sequences are not, and the epoch is random."""
    return f"{epoch}.{log_number}.{sequence}.{index}"


def relay_mark(message_id: str) -> tuple[int, int]:
    """Sequence and index of a relay's id, which rise from relay to relay of one sender."""
    _, _, sequence, index = message_id.split(".")
    return int(sequence), int(index)


def address_of(actor: str) -> Address:
    """The address that ``kind/key`` names, escaped as the senders of relays are."""
    kind, _, key = unescape(actor).partition("/")
    return Address(kind, key)


def chain_of(given: Mapping[str, str]) -> tuple[str, ...]:
    """The actors that wait for an ask."""
    text = given.get(headers.CHAIN, "")
    return tuple(unescape(token) for token in text.split(",")) if text else ()


def reply_message(outcome: Outcome) -> tuple[bytes, dict[str, str] | None]:
    """Body and headers of a reply: the JSON of the value itself, or a service error with a JSON body (ADR-32)."""
    failed = outcome.failure
    if failed is None:
        return bytes(outcome.value or b"null"), None
    brief = " ".join(failed.message.split())[:200]
    return msgspec.json.encode(failed), {headers.ERROR: brief or failed.kind, headers.ERROR_CODE: str(failed.code)}


def outcome_of(reply: Request) -> Outcome:
    """What a reply says. A service error without a body of ours becomes a failure of its code."""
    if headers.ERROR not in reply.headers:
        return Outcome(value=msgspec.Raw(reply.body))
    try:
        return Outcome(failure=decode(reply.body, Failure, "failure"))
    except Undecodable:
        code = reply.headers.get(headers.ERROR_CODE, "500")
        return Outcome(failure=Failure("error", int(code) if code.isdigit() else 500, reply.headers[headers.ERROR]))


def undecodable(error: Undecodable) -> Outcome:
    """The reply to a message that cannot be read."""
    return Outcome(failure=failure(UNDECODABLE, str(error)))
