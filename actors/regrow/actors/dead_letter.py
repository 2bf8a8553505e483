"""Dead letters: messages that were given up, kept with the cause."""

import msgspec
import structlog

from regrow.actors.errors import Failure
from regrow.actors.records import Letter
from regrow.bus import Address, Bus, PayloadTooLarge, encode

_log = structlog.get_logger(__name__)


class DeadLetter(msgspec.Struct, frozen=True):
    """What was given up, and why."""

    kind: str
    key: str
    message: Letter
    cause: Failure


async def bury(bus: Bus, address: Address, letter: Letter, cause: Failure) -> None:
    """Stores a dead letter; the same message buried again after a crash is stored once."""
    _log.error("dead letter", actor=str(address), id=letter.id, cause=cause.message)
    dead = DeadLetter(address.kind, address.key, msgspec.structs.replace(letter, body=_readable(letter.body)), cause)
    try:
        await bus.dead.bury(address, encode(dead), message_id=f"{letter.box}.{letter.sequence}.{letter.id}")
    except PayloadTooLarge as error:
        _log.error("dead letter does not fit the bus and is only logged", actor=str(address), error=str(error))


def _readable(body: msgspec.Raw) -> msgspec.Raw:
    """The body as it is, or, where it is no JSON, its text as a JSON string."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.Raw(encode(bytes(body).decode(errors="replace")))
    return body
