"""Finding a server as the NATS tools do, and a connection that says what it cannot do."""

import asyncio
import contextlib
import gc
import importlib.util
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import nkeys
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from regrow.bus.connection import ServerAddress, close, connect, options, resolve
from regrow.bus.errors import (
    AccessDenied,
    AddressUnusable,
    BusError,
    ConnectionLost,
    RequestTimeout,
    ServerTooOld,
    StoreUnavailable,
    Unreachable,
)
from regrow.bus.nats_bus import open_bus
from regrow.bus.replies import ReplyInbox
from regrow.bus.server import EmbeddedServer, find_binary, listening_port
from regrow.bus.subjects import Address

CREDS = "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n-----BEGIN USER NKEY SEED-----\nx\n"


def write_context(folder: Path, name: str, **settings: object) -> None:
    contexts = folder / "nats" / "context"
    contexts.mkdir(parents=True, exist_ok=True)
    (contexts / f"{name}.json").write_text(json.dumps(settings))


def select_context(folder: Path, name: str) -> None:
    (folder / "nats" / "context.txt").write_text(f"{name}\n")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with two contexts, of which `ngs` is selected."""
    config = tmp_path / ".config"
    write_context(config, "ngs", description="", url="nats://ngs:1", creds="~/ngs.creds", nkey="", token="")
    write_context(config, "dev", url="nats://dev:1", user="u", password="p", inbox_prefix="_MINE", color="red")
    select_context(config, "ngs")
    return tmp_path


def test_nothing_said_means_localhost(tmp_path: Path) -> None:
    assert resolve(environ={}, home=tmp_path) == ServerAddress(url="nats://127.0.0.1:4222")


def test_selected_context_is_the_default(home: Path) -> None:
    assert resolve(environ={}, home=home) == ServerAddress(url="nats://ngs:1", creds=home / "ngs.creds")


def test_context_is_found_by_its_name(home: Path) -> None:
    wanted = ServerAddress(url="nats://dev:1", user="u", password="p", inbox_prefix="_MINE")
    assert resolve(context="dev", environ={}, home=home) == wanted
    assert resolve(environ={"NATS_CONTEXT": "dev"}, home=home) == wanted


def test_argument_wins_over_the_environment(home: Path) -> None:
    environ = {"NATS_URL": "nats://env:1", "NATS_CONTEXT": "ngs", "NATS_CREDS": "/env.creds"}
    assert resolve("nats://arg:1", environ=environ, home=home).url == "nats://arg:1"
    assert resolve(context="dev", environ=environ, home=home).url == "nats://dev:1"
    assert resolve(creds="/arg.creds", environ=environ, home=home).creds == Path("/arg.creds")


def test_url_replaces_that_of_the_context_it_comes_with(home: Path) -> None:
    both = ServerAddress(url="nats://other:1", creds=home / "ngs.creds")
    assert resolve("nats://other:1", "ngs", environ={}, home=home) == both
    assert resolve(environ={"NATS_URL": "nats://other:1", "NATS_CONTEXT": "ngs"}, home=home) == both


@pytest.mark.parametrize("environ", [{}, {"NATS_CONTEXT": "ngs"}])
def test_login_of_a_context_is_not_sent_to_a_server_it_was_not_meant_for(home: Path, environ: dict[str, str]) -> None:
    assert resolve("nats://other:1", environ=environ, home=home) == ServerAddress(url="nats://other:1")
    assert resolve(environ={"NATS_URL": "nats://other:1"}, home=home) == ServerAddress(url="nats://other:1")


def test_credentials_replace_any_other_login(home: Path) -> None:
    assert resolve(context="dev", creds=Path("/my.creds"), environ={}, home=home) == ServerAddress(
        url="nats://dev:1", creds=Path("/my.creds"), inbox_prefix="_MINE"
    )
    assert resolve("nats://a:1", environ={"NATS_CREDS": "/env.creds"}, home=home).creds == Path("/env.creds")
    assert resolve(context="ngs", environ={"NATS_CREDS": "/env.creds"}, home=home).creds == home / "ngs.creds"


def test_every_way_to_log_in_is_read_from_a_context(tmp_path: Path) -> None:
    write_context(tmp_path, "x", nkey="/n", token="t", ca="/ca", cert="/cert", key="~/key", tls_first=True, url="a,b")
    found = resolve(context="x", environ={"XDG_CONFIG_HOME": str(tmp_path)}, home=Path("/home/me"))
    assert found == ServerAddress(
        url="a,b",
        nkey=Path("/n"),
        token="t",
        ca=Path("/ca"),
        cert=Path("/cert"),
        key=Path("/home/me/key"),
        tls_first=True,
    )
    assert found.servers == ["a", "b"]


def test_environment_and_home_are_those_of_the_process(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NATS_CONTEXT", "dev")
    monkeypatch.delenv("NATS_URL", raising=False)
    assert resolve().url == "nats://dev:1"


@pytest.mark.parametrize("name", ["none", "../ngs", "a/b"])
def test_missing_context_is_named(home: Path, name: str) -> None:
    with pytest.raises(AddressUnusable, match=f"context '{name}' cannot be used to connect: it"):
        resolve(context=name, environ={}, home=home)


def test_broken_context_is_named(home: Path) -> None:
    (home / ".config" / "nats" / "context" / "dev.json").write_text('{"url": 3}')
    with pytest.raises(AddressUnusable, match=r"context 'dev' .* Expected `str`, got `int`"):
        resolve(context="dev", environ={}, home=home)


@pytest.mark.parametrize("setting", ["nsc", "user_jwt", "jetstream_domain", "jetstream_api_prefix"])
def test_context_that_needs_more_than_is_supported_is_refused(tmp_path: Path, setting: str) -> None:
    write_context(tmp_path, "x", **{setting: "something"})
    with pytest.raises(AddressUnusable, match=f"it uses {setting}, which regrow does not support"):
        resolve(context="x", environ={"XDG_CONFIG_HOME": str(tmp_path)}, home=tmp_path)


@pytest.mark.parametrize(
    "url", ["nats://me:secret@host:1,tls://secret@other", "me:secret@host:1", "nats://me:sec/secret@host:1"]
)
def test_address_shows_no_secret(url: str) -> None:
    shown = ServerAddress(url=url, token="secret", password="secret")
    assert "secret" not in f"{shown} {shown!r}"
    assert "host:1" in str(shown)


@asynccontextmanager
async def configured(folder: Path, text: str) -> AsyncGenerator[str]:
    """The address of a server with a configuration of its own."""
    await anyio.Path(folder / "server.conf").write_text(
        f'host: 127.0.0.1\nport: -1\nports_file_dir: "{folder}"\n{text}'
    )
    command = [str(find_binary()), "-c", str(folder / "server.conf")]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        await until(lambda: announced_port(folder) is not None)
        yield f"127.0.0.1:{announced_port(folder)}"
    finally:
        process.terminate()
        await process.wait()


async def until(met: Callable[[], bool]) -> None:
    """Return when another process has brought something about."""
    async with asyncio.timeout(5):
        while True:
            if met():
                return
            await anyio.sleep(0.005)


def announced_port(folder: Path) -> int | None:
    return next((listening_port(path.read_bytes()) for path in folder.glob("*.ports")), None)


@asynccontextmanager
async def connected(url: str, **callbacks: Any) -> AsyncGenerator[Client]:
    client = await connect(ServerAddress(url=url), name="test", **callbacks)
    try:
        yield client
    finally:
        await client.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.asyncio
async def test_connection_reaches_the_server(nats_server: EmbeddedServer) -> None:
    address = ServerAddress(url=nats_server.url, inbox_prefix="_MINE")
    client = await connect(address, name="test")
    assert client.max_payload == 8 * 1024 * 1024
    assert client.new_inbox().startswith("_MINE.")
    await client.close()


@pytest.mark.asyncio
async def test_connection_comes_back_with_the_server_and_tells(store_dir: Path) -> None:
    server = EmbeddedServer(store_dir, durability="process")
    away, back, errors = asyncio.Event(), asyncio.Event(), list[BusError]()
    async with contextlib.AsyncExitStack() as stack:
        async with server:
            client = await stack.enter_async_context(
                connected(server.url, on_disconnect=away.set, on_reconnect=back.set, on_error=errors.append)
            )
        await away.wait()
        assert not back.is_set()
        async with server:
            await back.wait()
            await client.flush()
            away.clear()
            await client.close()
    assert not away.is_set()
    assert errors == []


@pytest.mark.asyncio
async def test_first_connection_waits_for_a_server_that_comes_up(store_dir: Path) -> None:
    port = free_port()
    async with asyncio.TaskGroup() as group:
        coming = group.create_task(connect(ServerAddress(url=f"127.0.0.1:{port}"), name="test"))
        await asyncio.sleep(0)
        async with EmbeddedServer(store_dir, port=port):
            client = await coming
            await client.close()


@pytest.mark.asyncio
async def test_server_that_does_not_answer_is_unreachable() -> None:
    address = ServerAddress(url=f"nats://me:secret@127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable, match=r"no NATS server answers at nats://127\.0\.0\.1:\d+: ") as caught:
        await connect(address, name="test", timeout_s=0.2)
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.asyncio
async def test_cancelled_connection_leaves_nothing_open() -> None:
    address = ServerAddress(url=f"nats://127.0.0.1:{free_port()}")
    attempt = asyncio.create_task(connect(address, name="test"))
    await asyncio.sleep(0)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("allowed", "login", "user", "password", "token"),
    [
        ("user: u, password: p", "", "u", "p", None),
        ("user: u, password: p", "u:p@", None, None, None),
        ("token: t", "", None, None, "t"),
        ("token: t", "t@", None, None, None),
    ],
)
async def test_login_is_accepted_and_another_one_denied_at_once(
    tmp_path: Path, allowed: str, login: str, user: str | None, password: str | None, token: str | None
) -> None:
    async with configured(
        tmp_path, f"jetstream: enabled\nstore_dir: '{tmp_path}'\nauthorization {{ {allowed} }}"
    ) as host:
        address = ServerAddress(url=f"nats://{login}{host}", user=user, password=password, token=token)
        client = await connect(address, name="test")
        await client.close()
        with pytest.raises(AccessDenied, match="the server denies the connection"):
            await connect(ServerAddress(url=f"nats://{host}", user="u", password="wrong"), name="test")


PERMISSIONS = """
jetstream {{ store_dir: "{folder}" }}
authorization {{
    users: [
        {{user: u, password: p, permissions: {{publish: {{deny: ["Forbidden.>"]}}, subscribe: {{deny: ["ears"]}}}}}}
        {{user: deaf, password: p, permissions: {{publish: ["elsewhere"]}}}}
    ]
}}
"""


@pytest.mark.asyncio
async def test_refused_subject_reaches_the_owner(tmp_path: Path) -> None:
    told = asyncio.Queue[BusError]()
    async with (
        configured(tmp_path, PERMISSIONS.format(folder=tmp_path)) as host,
        connected(f"u:p@{host}", on_error=told.put_nowait) as client,
    ):
        await client.publish("Forbidden.x", b"")
        denied = await told.get()
        assert isinstance(denied, AccessDenied)
        assert denied.subject == "forbidden.x"  # nats-py lowers the server's words
        await client.subscribe("ears")
        assert str(await told.get()) == str(AccessDenied("ears"))
        assert client.is_connected


TIGHT = """
jetstream {{ store_dir: "{folder}" }}
authorization {{
    users: [
        {{user: admin, password: p}}
        {{user: tight, password: p, permissions: {{publish: {{deny: ["rg.a.in.k.No", "rg.a.evt.*.k.No", "No"]}}}}}}
    ]
}}
"""


@pytest.mark.asyncio
async def test_who_waits_for_an_answer_that_was_refused_is_told_at_once_and_nobody_else(tmp_path: Path) -> None:
    told: list[BusError] = []
    no, yes = Address("k", "No"), Address("k", "yes")
    async with (
        configured(tmp_path, TIGHT.format(folder=tmp_path)) as host,
        connected(f"admin:p@{host}") as admin,
        open_bus(admin, "a", create=True),
        connected(f"tight:p@{host}", on_error=told.append) as client,
        open_bus(client, "a") as bus,
        asyncio.timeout(5),
    ):
        for _ in range(2):
            with pytest.raises(AccessDenied) as denied:
                await bus.mail.post("in", no, b"")
            assert denied.value.subject == "rg.a.in.k.No"
        with pytest.raises(AccessDenied):
            await bus.log.append(no, b'{"rid":"1"}', rid="1", after=0)
        outcomes = await asyncio.gather(
            *(bus.request("No", b"", timeout_s=60) for _ in range(20)),
            *(bus.mail.post("in", yes, b"") for _ in range(20)),
            return_exceptions=True,
        )
        assert [type(each) for each in outcomes] == [AccessDenied] * 20 + [int] * 20
        assert client.is_connected
        assert not told


@pytest.mark.asyncio
async def test_a_refusal_that_could_be_that_of_either_of_two_requests_fails_neither(tmp_path: Path) -> None:
    told: list[BusError] = []
    async with (
        configured(tmp_path, TIGHT.format(folder=tmp_path)) as host,
        connected(f"tight:p@{host}", on_error=told.append) as client,
        ReplyInbox(client) as replies,
    ):
        await client.subscribe("no")
        outcomes = await asyncio.gather(
            replies.request("no", b"", timeout_s=0.2), replies.request("No", b"", timeout_s=0.2), return_exceptions=True
        )
        assert [type(each) for each in outcomes] == [RequestTimeout, RequestTimeout]
        assert not told


@pytest.mark.asyncio
async def test_login_that_may_not_ask_for_jetstream_is_denied(tmp_path: Path) -> None:
    async with configured(tmp_path, PERMISSIONS.format(folder=tmp_path)) as host:
        with pytest.raises(AccessDenied, match=r"the subject '\$js\.api\.info'"):
            await connect(ServerAddress(url=f"deaf:p@{host}"), name="test", timeout_s=0.5)


@pytest.mark.asyncio
async def test_login_by_an_nkey_seed_is_let_in_and_another_seed_is_not(tmp_path: Path) -> None:
    library: Any = nkeys  # untyped
    keys = [library.from_seed(library.encode_seed(bytes([number]) * 32, library.PREFIX_BYTE_USER)) for number in (1, 2)]
    for number, key in enumerate(keys):
        (tmp_path / f"{number}.nk").write_bytes(bytes(key.seed))
    users = f"authorization {{ users: [ {{ nkey: {keys[0].public_key.decode()} }} ] }}"
    async with configured(tmp_path, f"jetstream {{ store_dir: '{tmp_path}' }}\n{users}") as host:
        client = await connect(ServerAddress(url=f"nats://{host}", nkey=tmp_path / "0.nk"), name="test")
        await client.close()
        with pytest.raises(AccessDenied):
            await connect(ServerAddress(url=f"nats://{host}", nkey=tmp_path / "1.nk"), name="test", timeout_s=1)


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:Exception ignored")  # nats-py drops the socket of a refused attempt
async def test_login_that_is_refused_later_is_told_once(tmp_path: Path) -> None:
    told = asyncio.Queue[BusError]()
    port = free_port()
    server = (
        f"port: {port}\nlog_file: '{tmp_path}/log'\njetstream {{ store_dir: '{tmp_path}' }}\n"
        "authorization { user: u, password: "
    )
    (tmp_path / "second").mkdir()
    async with contextlib.AsyncExitStack() as stack:
        async with configured(tmp_path, server + "p }"):
            url = f"u:p@127.0.0.1:{port}"
            await stack.enter_async_context(connected(url, on_error=told.put_nowait))
        async with configured(tmp_path / "second", server + "other }"):
            assert str(await told.get()) == str(AccessDenied())
            await until(lambda: (tmp_path / "log").read_text().count("authentication error") > 2)
    gc.collect()
    while not told.empty():  # nats-py may give up after two refusals, which is something else to tell
        assert isinstance(told.get_nowait(), ConnectionLost)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("", "without JetStream"),
        (
            "jetstream {{ store_dir: '{folder}' }}, accounts {{ A {{ users: [{{user: u}}] }} }}, no_auth_user: u",
            "JetStream not enabled for account",
        ),
    ],
)
async def test_server_without_jetstream_has_no_store(tmp_path: Path, config: str, why: str) -> None:
    async with configured(tmp_path, config.format(folder=tmp_path)) as host:
        with pytest.raises(StoreUnavailable, match=why):
            await connect(ServerAddress(url=host), name="test")


@pytest.mark.asyncio
async def test_old_server_is_refused() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version":"2.9.1","headers":true,"max_payload":1048576}\r\n')
        while line := await reader.readline():
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(ServerTooOld, match=r"nats-server 2\.9\.1 is too old"):
            await connect(ServerAddress(url=f"127.0.0.1:{port}"), name="test")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A new self-signed certificate for this machine, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=test"
    command = ["openssl", *request.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@pytest.mark.asyncio
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
@pytest.mark.parametrize("first", [False, True])
async def test_connection_is_encrypted_and_both_sides_are_known(tmp_path: Path, first: bool) -> None:
    cert, key = certificate(tmp_path)
    tls = f"cert_file: '{cert}', key_file: '{key}', ca_file: '{cert}', verify: true, handshake_first: {str(first).lower()}"
    async with configured(tmp_path, f"jetstream {{ store_dir: '{tmp_path}' }}\ntls {{ {tls} }}") as host:
        address = ServerAddress(url=f"tls://{host}", ca=cert, cert=cert, key=key, tls_first=first)
        client = await connect(address, name="test")
        await client.close()
        with pytest.raises(AddressUnusable, match="certificate verify failed"):
            await connect(ServerAddress(url=f"tls://{host}", tls_first=first), name="test")


@pytest.mark.asyncio
async def test_connection_that_the_server_ends_for_good_is_told(tmp_path: Path) -> None:
    told = asyncio.Queue[BusError]()
    async with (
        configured(tmp_path, f"max_payload: 1000\njetstream {{ store_dir: '{tmp_path}' }}") as host,
        connected(host, on_error=told.put_nowait) as client,
    ):
        # nats-py compares the body alone with the limit, the server body and headers
        await client.publish("x", bytes(900), headers={"Padding": "x" * 200})
        lost = await told.get()
        assert isinstance(lost, ConnectionLost)
        assert "maximum payload" in str(lost)
        assert client.is_closed


@pytest.mark.asyncio
async def test_dropped_messages_are_logged(nats_server: EmbeddedServer) -> None:
    blocked, last = asyncio.Event(), asyncio.Event()

    async def block(message: Msg) -> None:
        await blocked.wait()

    async def finish(message: Msg) -> None:
        last.set()

    with capture_logs() as logs:
        async with connected(nats_server.url) as client:
            await client.subscribe("slow", cb=block, pending_msgs_limit=1)
            await client.subscribe("last", cb=finish)
            for subject in ("slow", "slow", "slow", "slow", "last"):
                await client.publish(subject, b"")
            await last.wait()
            blocked.set()
    assert {"event": "messages dropped", "subject": "slow", "log_level": "error"} in logs


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["nats://", "nats://host:none", "nats://a:1,ws://b:1"])
async def test_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(AddressUnusable, match="cannot be used to connect"):
        await connect(ServerAddress(url=url), name="test")


def found(name: str) -> object:
    return name


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        ("creds", None, "No such file"),
        ("creds", "-----BEGIN NATS USER JWT-----\nx\n", "not a NATS credentials file"),
        ("nkey", f"SA{'A' * 56}", "not the nkey seed of a user"),
        ("nkey", "SUAA", "not the nkey seed of a user"),
        ("nkey", "\udcff", "codec"),
        ("ca", "no certificate", "X509"),
        ("cert", None, "No such file"),
    ],
)
async def test_file_that_is_no_login_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, text: str | None, why: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", found)
    path = tmp_path / "file"
    if text is not None:
        await anyio.Path(path).write_text(text, errors="surrogateescape")
    paths: dict[str, Any] = {field: path}
    with pytest.raises(AddressUnusable, match=why) as caught:
        await connect(ServerAddress(**paths), name="test")
    assert caught.value.what == str(path)


def test_files_of_credentials_reach_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", found)
    creds, nkey = tmp_path / "creds", tmp_path / "nkey"
    creds.write_text(CREDS)
    nkey.write_text(f"SU{'A' * 56}\n")
    assert options(ServerAddress(creds=creds), "test")["user_credentials"] == str(creds)
    assert options(ServerAddress(nkey=nkey), "test")["nkeys_seed_str"] == f"SU{'A' * 56}"


def missing(name: str) -> None:
    return None


@pytest.mark.asyncio
async def test_package_that_logins_need_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    with pytest.raises(AddressUnusable, match=r"regrow\[creds\]"):
        await connect(ServerAddress(creds=tmp_path), name="test")


class Broken(Client):
    """A client whose connection broke just before: nats-py's own wait for it was cancelled."""

    async def close(self) -> None:
        raise asyncio.CancelledError


@pytest.mark.asyncio
async def test_a_cancellation_that_nobody_asked_for_does_not_leave_a_close() -> None:
    await close(Broken())


class Slow(Client):
    """A client whose close takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = asyncio.Event()

    async def close(self) -> None:
        self.closing.set()
        await asyncio.Event().wait()


@pytest.mark.asyncio
async def test_a_close_that_is_cancelled_stays_so() -> None:
    client = Slow()
    closing = asyncio.create_task(close(client))
    await client.closing.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
