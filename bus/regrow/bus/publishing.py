"""Publishes into streams: whether they fit, the stream's answer, and what a refusal means."""

from collections.abc import Callable

import msgspec
from nats.aio.client import Client

from regrow.bus.api import LIMIT_REACHED, NO_ROOM, ApiError, PubAck, Refusal
from regrow.bus.codec import decode
from regrow.bus.errors import BusError, PayloadTooLarge, StoreFull
from regrow.bus.headers import Headers, size
from regrow.bus.replies import ReplyInbox

_acknowledgements = msgspec.json.Decoder(PubAck)


def fits(client: Client, data: bytes, headers: Headers | None) -> bool:
    """Whether the server takes this in one message: it counts body and headers, and drops the connection of who sends more."""
    return len(data) + size(headers) <= client.max_payload


def check_size(client: Client, data: bytes, headers: Headers | None) -> None:
    """Raises ``PayloadTooLarge`` for what does not fit."""
    if not fits(client, data, headers):
        raise PayloadTooLarge(len(data) + size(headers), client.max_payload)


async def publish_acked(
    replies: ReplyInbox, subject: str, data: bytes, headers: Headers | None, *, timeout_s: float
) -> PubAck:
    """The stream's answer to a publish, refusals included."""
    message = await replies.request(subject, data, headers, timeout_s=timeout_s)
    return decode(message.data, PubAck, "acknowledgement")


def accepted(answer: bytes) -> int | None:
    """The sequence that a stream gave a publish; None for a refusal, and for an answer that is none of a stream."""
    try:
        ack = _acknowledgements.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return ack.seq if ack.error is None else None


def refused(subject: str, refusal: Refusal, full: Callable[[str], BusError] = StoreFull) -> BusError:
    """The error for a refused publish: ``full`` when the stream's limit is reached, ``StoreFull`` for the server's."""
    if refusal.err_code == LIMIT_REACHED:
        return full(subject)
    if refusal.err_code in NO_ROOM:
        return StoreFull(subject)
    return ApiError(f"a publish to {subject}", refusal)
