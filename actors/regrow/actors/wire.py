"""How messages, replies and failures look in a NATS message: pure translations, nothing is sent here."""

import re
from collections.abc import Mapping

import msgspec

from regrow.actors.errors import UNDECODABLE, Failure, failure
from regrow.actors.records import Letter, Outcome
from regrow.bus import Delivery, Request, Undecodable, decode, escape, headers, unescape

_PUBLISHABLE = re.compile(r"[^\s.*>\x00-\x1f]+(\.[^\s.*>\x00-\x1f]+)+")

REPLY_PREFIX = "_INBOX."
"""Replies go only to subjects under this prefix: the caller chose the subject, and the runtime may write anywhere."""


def letter_of(delivery: Delivery) -> Letter:
    """What came out of a mailbox. From the outside only id and reply subject count: the rest is the runtime's own."""
    given: Mapping[str, str] = delivery.headers
    trusted = delivery.box == "act"
    message_id = given.get(headers.ID) or f"{delivery.box}-{delivery.sequence}"
    sender = given.get(headers.SENDER, "") if trusted else ""
    return Letter(
        box=delivery.box,
        sequence=delivery.sequence,
        id=message_id,
        body=msgspec.Raw(delivery.body),
        reply=reply_subject(given.get(headers.REPLY, "")),
        sender=sender,
        mark=relay_mark(message_id) if sender else None,
        chain=chain_of(given) if trusted else (),
    )


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


def ask_id(asker: str, turn: str, step: str) -> str:
    """The id of an ask inside a turn: the same whenever that step is tried again."""
    return f"{escape(asker)}:{turn}:{step}"


def asker_of(message_id: str) -> tuple[str, str] | None:
    """Asker and turn of an ask's id; None for any other id."""
    parts = message_id.split(":", 2)
    return (parts[0], parts[1]) if len(parts) == 3 else None


def chain_header(chain: tuple[str, ...]) -> str:
    """The waiting actors as a header."""
    return ",".join(escape(each) for each in chain)


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
