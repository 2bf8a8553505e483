"""A copy of all streams of an application in a directory, and the way back, by the server's own snapshots.

Each stream's copy is of one moment, but the streams are copied one after the other. So the copy is consistent only when nobody
works on the application meanwhile: a node that serves it is found by its claims of shards before the copy, and by what it wrote
after it. Mail from outside may come in all the time, and timers may fire: that moves no other stream. What a stream refers to is
copied after it.

In the directory lies, for each stream, what ``nats stream backup`` writes: ``backup.json`` and ``stream.tar.s2``; consumers are
not copied, for nodes make their own. The manifest is written last: without it the copy is not whole.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client as Client
from nats.aio.msg import Msg

from regrow.bus.api import ApiError, JetStreamApi, Refusal, together
from regrow.bus.codec import decode, encode
from regrow.bus.errors import BusError, RequestTimeout
from regrow.bus.replies import ReplyInbox, status, subscribe, unsubscribe
from regrow.bus.shards import Shards
from regrow.bus.streams import check_streams, open_streams, stream_configs
from regrow.bus.subjects import BOXES, SHARDS, Subjects

CHUNK_BYTES = 256 * 1024
RESTORE_CHUNK_BYTES = 16 * 1024
"""The server gives a part up that it has not stored within 5 s. A part is compressed, and a server that syncs each message stores
about a thousand of them in a second, so parts are small. Such a server takes its time; one that does not sync is 100 times faster.
"""
CHUNK_TIMEOUT_S = 60.0
"""How long the server may be silent in the middle of a stream."""
RESTORE_TIMEOUT_S = 600.0
"""How long the server may take to look through a stream that it was given whole."""
MANIFEST = "manifest.json"
SETTINGS = "backup.json"
DATA = "stream.tar.s2"


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds."""

    v: int
    app: str
    taken_ns: int
    """When it was complete, nanoseconds since 1970."""
    streams: tuple[str, ...]
    messages: int
    bytes: int
    """In all streams together, as the server counts them."""


class Settings(msgspec.Struct, frozen=True):
    """A stream as it was, in the words of the server."""

    config: dict[str, Any]
    state: dict[str, Any]


@dataclass(eq=False)
class StillServed(BusError):
    """Nodes work on the application, or have died without letting go of it, so that no consistent copy can be made."""

    app: str
    why: str

    def __str__(self) -> str:
        return f"no consistent copy of {self.app!r} can be made: {self.why}"


@dataclass(eq=False)
class BackupUnusable(BusError):
    """There is no whole backup in this directory, or it cannot go where it should."""

    folder: Path
    why: str

    def __str__(self) -> str:
        return f"the backup {self.folder} cannot be used: {self.why}"


async def back_up(client: Client, app: str, folder: Path, *, force: bool = False) -> Manifest:
    """Copies all streams of an application into a directory that is new or empty.

    Raises ``StillServed`` when a node holds shards, or wrote during the copy; with ``force`` claims that nobody has released are
    taken for those of nodes that have died. ``StoreUnavailable`` when the streams are not whole, ``BackupUnusable`` when the
    directory holds something. What was copied until then stays, without a manifest.
    """
    subjects = Subjects(app)
    async with ReplyInbox(client) as replies:
        api = JetStreamApi(replies)
        await open_streams(api, subjects)
        if not force:
            await _check_released(replies, api, subjects)
        _begin(folder)
        names = [config["name"] for config in stream_configs(subjects)]
        taken = {name: await _snapshot(client, replies, name, folder / name) for name in names}
        await _check_unmoved(api, subjects, taken)
    manifest = Manifest(
        1,
        app,
        time.time_ns(),
        tuple(names),
        sum(each.state["messages"] for each in taken.values()),
        sum(each.state["bytes"] for each in taken.values()),
    )
    _write(folder / MANIFEST, encode(manifest))
    return manifest


async def restore(client: Client, app: str, folder: Path) -> Manifest:
    """Makes all streams of an application from a backup, with their sequences, times, claims of shards and epoch.

    Raises ``BackupUnusable`` when the directory holds no whole backup of this application, or one of its streams is on the
    server: nothing is ever replaced. ``ApiError`` when the server refuses a stream; those before it are there then.
    """
    manifest = read_manifest(folder)
    if manifest.app != app:
        raise BackupUnusable(folder, f"it is one of {manifest.app!r}, not of {app!r}")
    subjects = Subjects(app)
    async with ReplyInbox(client) as replies:
        api = JetStreamApi(replies)
        there = [each.stream for each in await check_streams(api, subjects) if each.state != "missing"]
        if there:
            raise BackupUnusable(
                folder, f"{there[0]} is on this server already; restore to a server without streams of {app!r}"
            )
        for name in manifest.streams:
            await _restore(replies, api, name, folder / name)
        await open_streams(api, subjects)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What the backup in this directory holds. Raises ``BackupUnusable``."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise BackupUnusable(folder, f"it has no {MANIFEST}, which is written when all is copied") from None
    except msgspec.DecodeError as error:
        raise BackupUnusable(folder, f"its {MANIFEST} is none of this version of regrow: {error}") from None


async def _check_released(replies: ReplyInbox, api: JetStreamApi, subjects: Subjects) -> None:
    shards = Shards(replies, api, subjects)
    claims = await together(shards.look(shard) for shard in range(SHARDS))
    held = sum(last is not None and not last.claim.released for last in claims)
    if held:
        raise StillServed(
            subjects.app,
            f"{held} of its {SHARDS} shards are held by a node that runs, or that died without letting go; "
            "stop all nodes, and say --force when you are certain that none runs",
        )


async def _check_unmoved(api: JetStreamApi, subjects: Subjects, taken: dict[str, Settings]) -> None:
    """Raises ``StillServed`` when what only a node writes is not as it was copied."""
    others = {subjects.mail_stream(box) for box in BOXES} | {f"OBJ_{subjects.claim_bucket}"}
    fixed = [name for name in taken if name not in others]
    for name, answer in zip(fixed, await together(api.call(f"STREAM.INFO.{name}") for name in fixed), strict=True):
        copied = taken[name].state
        if any(answer["state"][each] != copied[each] for each in ("last_seq", "messages")):
            raise StillServed(
                subjects.app, f"a node wrote to {name} while it was made; stop all nodes, then begin anew"
            )


async def _snapshot(client: Client, replies: ReplyInbox, name: str, folder: Path) -> Settings:
    """Copies one stream. The server sends no more than its window ahead of our acknowledgements, so the queue is bounded.

    It waits 2 s for a subscription to just that subject, so the parts do not come through the shared inbox.
    """
    chunks: asyncio.Queue[Msg | None] = asyncio.Queue()
    _begin(folder)
    deliver: str = client.new_inbox()
    parts = await subscribe(client, deliver, chunks.put)
    try:
        asked = {"deliver_subject": deliver, "no_consumers": True, "chunk_size": CHUNK_BYTES}
        with replies.interruptions(lambda: chunks.put_nowait(None)), (folder / DATA).open("wb") as file:
            answer = await JetStreamApi(replies).call(f"STREAM.SNAPSHOT.{name}", asked)
            while data := await _next_chunk(replies, name, chunks):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
    finally:
        await unsubscribe(client, parts)
    settings = Settings(answer["config"], answer["state"])
    _write(folder / SETTINGS, encode(settings))
    return settings


async def _next_chunk(replies: ReplyInbox, name: str, chunks: asyncio.Queue[Msg | None]) -> bytes:
    """The next part of a stream, acknowledged where the server wants it; empty at its end."""
    try:
        async with asyncio.timeout(CHUNK_TIMEOUT_S):
            message = await chunks.get()
    except TimeoutError:
        raise RequestTimeout(f"the snapshot of {name}", CHUNK_TIMEOUT_S) from None
    if message is None:
        raise RequestTimeout(f"the snapshot of {name}")
    if not message.data and status(message) not in (None, "204"):
        raise ApiError(f"STREAM.SNAPSHOT.{name}", Refusal(description=f"status {status(message)}"))
    if message.reply:
        await replies.send(message.reply, b"")
    return message.data


async def _restore(replies: ReplyInbox, api: JetStreamApi, name: str, folder: Path) -> None:
    """Gives one stream to the server, part by part, each acknowledged."""
    try:
        settings = decode((folder / SETTINGS).read_bytes(), Settings, str(folder / SETTINGS))
        file = (folder / DATA).open("rb")
    except FileNotFoundError as error:
        raise BackupUnusable(folder.parent, f"it has no {error.filename}") from None
    with file:
        answer = await api.call(f"STREAM.RESTORE.{name}", {"config": settings.config, "state": settings.state})
        deliver = str(answer["deliver_subject"])
        while data := file.read(RESTORE_CHUNK_BYTES):
            await _give(replies, name, deliver, data)
        state = (await _give(replies, name, deliver, b"")).get("state", {})
    if any(state.get(each) != settings.state[each] for each in ("last_seq", "messages")):
        raise BackupUnusable(folder.parent, f"the server made another {name} of it; remove that, and check the files")


async def _give(replies: ReplyInbox, name: str, deliver: str, data: bytes) -> dict[str, Any]:
    """The server's answer to one part. Raises ``ApiError``."""
    answer = await replies.request(deliver, data, timeout_s=CHUNK_TIMEOUT_S if data else RESTORE_TIMEOUT_S)
    fields = decode(answer.data, dict[str, Any], f"answer to a part of {name}") if answer.data else {}
    if fields.get("error"):
        raise ApiError(f"STREAM.RESTORE.{name}", msgspec.convert(fields["error"], Refusal))
    return fields


def _begin(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BackupUnusable(folder, "it is not empty; name a new directory")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
