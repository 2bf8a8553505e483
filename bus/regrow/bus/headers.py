"""The header names of the wire, and the one function that builds the fence.

Header names are case-sensitive, and the server ignores a fence that is empty or misspelt: the append would go through
unfenced. So nothing but ``fence`` writes it.
"""

import re
from collections.abc import Mapping

from regrow.bus.subjects import Box

Headers = Mapping[str, str]

ID = "Rg-Id"
"""Chosen by the caller of an ask, or by the gateway: the same id is answered from the log, not run again."""
REPLY = "Rg-Reply"
"""Where the reply to a message that came through a mailbox is published."""
SENDER = "Rg-Sender"
"""The actor (``kind/key``) whose turn sent a relay."""
SENT = "Rg-Sent"
"""When the record of a relay was made, milliseconds since 1970."""
TIMER = "Rg-Timer"
"""The escaped name of a timer that fired."""
CHAIN = "Rg-Chain"
"""The actors that wait for this ask, comma separated and escaped; an ask to one of them would never end."""
DEADLINE = "Rg-Deadline"
"""Seconds since 1970 after which nobody waits for the reply any more."""
TYPE = "Rg-Type"
"""What a message of the runtime is, in its own mailbox: a relayed send has none, a reply, a timer or an order names itself."""
CORRELATION = "Rg-Correlation"
"""The ask that a reply answers."""
BLOB = "Rg-Blob"
"""The hash under which the body of a large message was put aside; its own body is empty."""
COVERS = "Rg-Covers"
"""The last sequence of a log that a snapshot kept beside it stands for."""
ACTOR = "Rg-Actor"
"""The actor in whose turn a tool runs."""
STEP = "Rg-Step"
"""The step key under which a tool runs."""
TURN_MESSAGE = "Rg-Message"
"""The id of the message in whose turn a tool runs."""
ATTEMPT = "Rg-Attempt"
"""The number of the attempt at a step for which a tool runs."""
ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"
MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
ROLLUP = "Nats-Rollup"
_NAME = re.compile("[!-9;-~]+")


def fence(after: int, *, rollup: bool = False) -> dict[str, str]:
    """Headers of an append that is accepted only when ``after`` is the log's last sequence (0: the log is empty)."""
    if after < 0:
        raise ValueError(f"a log's last sequence is 0 or more, not {after}")
    headers = {EXPECTED_SEQUENCE: str(after)}
    if rollup:
        headers[ROLLUP] = "sub"
    return headers


def fence_on_wire(after: int) -> bytes:
    """The same as it stands in a message."""
    if after < 0:
        raise ValueError(f"a log's last sequence is 0 or more, not {after}")
    return f"NATS/1.0\r\n{EXPECTED_SEQUENCE}: {after}\r\n\r\n".encode()


def letter(box: Box, headers: Headers | None, message_id: str | None) -> dict[str, str]:
    """Headers of a message for a mailbox; ``message_id`` is for ``act`` only.

    Raises ValueError for headers that the server would act on: copied from a message that came in, one of them could empty
    a mailbox (``Nats-Rollup``) or swallow somebody else's mail (``Nats-Msg-Id``, which counts for the whole stream); and for
    a name that is none on the wire, such as one with a colon or a line break.
    """
    given = dict(headers or {})
    for name in given:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no header name: use printable ASCII without spaces and colons")
        if name.lower().startswith("nats-"):
            raise ValueError(f"the header {name} is an order to the server: leave it out of a message for an actor")
    if message_id is not None:
        if box == "in":
            raise ValueError(f"a message for the outside mailbox takes no message id: use the header {ID}")
        given[MESSAGE_ID] = message_id
    return given


def size(headers: Headers | None) -> int:
    """Bytes that these headers take on the wire, which count towards the server's payload limit."""
    if not headers:
        return 0
    return len("NATS/1.0\r\n\r\n") + sum(
        len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items()
    )
