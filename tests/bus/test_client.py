"""What the client hears at once comes as whole as through nats-py's queue, wherever the stream is cut."""

import random

import pytest
from nats.aio.subscription import Subscription

from regrow.bus.client import BusClient

pytestmark = pytest.mark.asyncio

SID = 7


def stream() -> tuple[bytes, list[tuple[str, str, bytes, dict[str, str] | None]]]:
    """Bytes of a server, and what of them is heard at once."""
    head = b"NATS/1.0\r\nA: b\r\n\r\n"
    sent = (
        b'MSG _INBOX.a.1 7 9\r\n{"seq":1}\r\n'
        b"MSG _INBOX.a.2 7 back.here 0\r\n\r\n"
        b"PING\r\n"
        b"MSG other 8 3\r\nabc\r\n"
        b"HMSG _INBOX.a.3 7 %d %d\r\n%sbody\r\n" % (len(head), len(head) + 4, head) + b"+OK\r\n"
        b"MSG _INBOX.a.4 7 8\r\nMSG x 7\r\r\n"
    )
    return sent, [
        ("_INBOX.a.1", "", b'{"seq":1}', None),
        ("_INBOX.a.2", "back.here", b"", None),
        ("_INBOX.a.3", "", b"body", {"A": "b"}),
        ("_INBOX.a.4", "", b"MSG x 7\r", None),
    ]


class Quiet(BusClient):
    """A client without a connection, which answers no ping."""

    async def _process_ping(self) -> None: ...


@pytest.mark.parametrize("seed", range(20))
async def test_the_same_messages_are_heard_however_the_stream_is_cut(seed: int) -> None:
    sent, expected = stream()
    client, heard = Quiet(), list[tuple[str, str, bytes, dict[str, str] | None]]()
    parser = client._ps  # pyright: ignore[reportPrivateUsage]

    def note(subject: str, reply: str, data: bytes, headers: dict[str, str] | None) -> None:
        heard.append((subject, reply, data, headers))

    draw = random.Random(seed)
    with client.hearing_at_once(Subscription(client, SID), note):
        left = sent * 3
        while left:
            size = draw.randint(1, 40 if seed % 2 else len(sent) * 2)
            await parser.parse(left[:size])
            left = left[size:]
    assert heard == expected * 3
    assert client.stats["in_msgs"] == 3 * (len(expected) + 1)  # and one that nobody hears


async def test_what_fails_in_hearing_is_reported_and_the_next_message_is_heard() -> None:
    client, reported, heard = Quiet(), list[Exception](), list[bytes]()

    async def report(error: Exception) -> None:
        reported.append(error)

    def hear(subject: str, reply: str, data: bytes, headers: dict[str, str] | None) -> None:
        if data == b"bad":
            raise ValueError(subject)
        heard.append(data)

    client._error_cb = report  # pyright: ignore[reportPrivateUsage]
    with client.hearing_at_once(Subscription(client, SID), hear):
        await client._ps.parse(b"MSG a 7 3\r\nbad\r\nMSG b 7 4\r\ngood\r\n")  # pyright: ignore[reportPrivateUsage]
    assert [str(error) for error in reported] == ["a"]
    assert heard == [b"good"]
