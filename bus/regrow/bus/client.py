"""The client of a connection: nats-py's, with a shorter way in and out for what comes by the ten thousand in a second.

A message to a subscription of nats-py goes through a queue to a task, and so reaches its callback one turn of the event loop
later than it could; a publish is a coroutine that hardly ever waits. Replies are read, and records sent, without either. The
client also tells whoever waits for an answer that its subject was refused.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

OnDenied = Callable[[str], bool]
OnMessage = Callable[[str, str, bytes, dict[str, str] | None], None]
"""Gets a message's subject, reply subject, body and headers."""

BUFFERED_MAX = 1024 * 1024
"""Bytes that may wait in nats-py's buffer when a message is added without waiting; it lets twice as much wait."""


_MESSAGE, _END = b"MSG ", b"\r\n"


class BusClient(Client):
    """A client that knows who may be waiting: the server says only to the connection that it refused a publish."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[OnDenied] = []
        self._heard_at_once: dict[int, OnMessage] = {}
        self._ps = _Parser(self)

    @contextmanager
    def hearing_at_once(self, subscription: Subscription, on_message: OnMessage) -> Generator[None]:
        """Calls this with each message of the subscription as soon as it is read, in place of its callback."""
        sid: int = subscription._id  # pyright: ignore[reportPrivateUsage]  # nats-py shows it nowhere
        self._heard_at_once[sid] = on_message
        try:
            yield
        finally:
            del self._heard_at_once[sid]

    async def hear(self, data: bytes) -> int:
        """Hands over the messages without headers with which this begins, as long as they are heard at once and lie here whole;
        how many bytes they take."""
        heard, at = self._heard_at_once, 0
        while data.startswith(_MESSAGE, at):
            line = data.find(_END, at)
            words: list[bytes] = data[at + len(_MESSAGE) : line].split(b" ") if line > 0 else []
            on_message = heard.get(int(words[1])) if 3 <= len(words) <= 4 else None
            if on_message is None:
                break
            start = line + len(_END)
            end = start + int(words[-1])
            if end + len(_END) > len(data):
                break
            at = end + len(_END)
            self.stats["in_msgs"] += 1
            self.stats["in_bytes"] += end - start
            try:
                on_message(words[0].decode(), words[2].decode() if len(words) == 4 else "", data[start:end], None)
            except Exception as error:  # as for any callback: it must not end the reading of the connection
                await self._error_cb(error)
        return at

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        on_message = self._heard_at_once.get(sid)
        if on_message is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            read = await self._process_headers(headers) if headers else None
            self.stats["in_msgs"] += 1
            self.stats["in_bytes"] += len(data)
            try:
                on_message(subject.decode(), reply.decode(), data, read)
            except Exception as error:
                await self._error_cb(error)

    @contextmanager
    def denials(self, listener: OnDenied) -> Generator[None]:
        """Calls the listener with each subject, in lower case, to which a publish was refused; it says whether that was its own."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def deny(self, subject: str) -> bool:
        """Whether somebody waited for the answer to a publish to this subject, and knows now that none comes."""
        return any(listener(subject) for listener in list(self._listeners))


class _Parser(Parser):
    """nats-py's, behind a look at what begins with messages that are heard at once: nearly all that comes in under load."""

    def __init__(self, client: BusClient) -> None:
        super().__init__(client)
        self._client = client

    async def parse(self, data: bytes = b"") -> None:
        if self.state == AWAITING_CONTROL_LINE:
            if self.buf:  # the beginning of a line
                data = bytes(self.buf) + data
                self.buf.clear()
            data = data[await self._client.hear(data) :]
        await super().parse(data)


def publish_nowait(
    client: Client, subject: str, body: bytes, reply: str, head: bytes, *, at_once: bool = False
) -> bool:
    """Sends a message in the coming turn of the event loop; False, and nothing is sent, where that would have to wait.

    ``head``: its headers as they are on the wire. Subject and headers are not checked. ``at_once``: now, by a write of its own,
    where nothing else waits to be written; for one message among many that is dear.
    """
    flusher = cast("asyncio.Task[None] | None", client._flusher_task)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
    flushes = client._flush_queue  # pyright: ignore[reportPrivateUsage]
    connected = client._status == Client.CONNECTED  # pyright: ignore[reportPrivateUsage]
    if flusher is None or flusher.done() or flushes is None or not connected:
        return False
    if client._pending_data_size > BUFFERED_MAX:  # pyright: ignore[reportPrivateUsage]
        return False
    line = f"HPUB {subject} {reply} {len(head)} {len(head) + len(body)}\r\n".encode()
    frame = b"".join((line, head, body, b"\r\n"))
    client.stats["out_msgs"] += 1
    client.stats["out_bytes"] += len(body)
    transport = client._transport  # pyright: ignore[reportPrivateUsage]
    if at_once and not client._pending and type(transport) is TcpTransport:  # pyright: ignore[reportPrivateUsage]
        transport.write(frame)  # type: ignore[no-untyped-call]  # another kind of transport sends nothing before it is drained
        return True
    client._pending.append(frame)  # pyright: ignore[reportPrivateUsage]
    client._pending_data_size += len(frame)  # pyright: ignore[reportPrivateUsage]
    if flushes.empty():
        flushes.put_nowait(asyncio.get_running_loop().create_future())
    return True
