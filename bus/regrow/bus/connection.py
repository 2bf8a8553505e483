"""Where a server is, as the NATS tools understand it, and a connection to it that does not give up.

`resolve` reads the environment and the context files of the `nats` command (ADR-21); it opens no connection. What
`connect` returns belongs to the event loop that it was made in.
"""

import asyncio
import importlib.util
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import msgspec
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, SlowConsumerError

from regrow.bus.client import BusClient
from regrow.bus.errors import AccessDenied, AddressUnusable, BusError, ConnectionLost, StoreUnavailable, Unreachable
from regrow.bus.server import check_version

DEFAULT_URL = "nats://127.0.0.1:4222"
CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
RECONNECT_WAIT_S = 0.25  # a restarted server is back within a fraction of a second
PING_INTERVAL_S = 10  # two unanswered pings: a peer that vanished is noticed within half a minute
PENDING_BYTES_MAX = 64 << 20  # what may wait to be written, for several messages of the largest size

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """Where a server is and how to log in. Its text and its `repr` hold no secret."""

    url: str = field(default=DEFAULT_URL, repr=False)
    """One or more, comma separated; each may hold a login."""
    creds: Path | None = None
    nkey: Path | None = None
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    inbox_prefix: str = "_INBOX"
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    tls_first: bool = False

    @property
    def servers(self) -> list[str]:
        """The urls, one each."""
        return [url.strip() for url in self.url.split(",") if url.strip()]

    def __str__(self) -> str:
        return ",".join(re.sub(r"^(\w+://)?.*@", r"\1", url) for url in self.servers)


class Context(msgspec.Struct, frozen=True):
    """A context file of the `nats` command, as far as regrow knows it (ADR-21)."""

    url: str = ""
    creds: str = ""
    nkey: str = ""
    token: str = ""
    user: str = ""
    password: str = ""
    inbox_prefix: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    tls_first: bool = False
    nsc: str = ""
    user_jwt: str = ""
    jetstream_domain: str = ""
    jetstream_api_prefix: str = ""


UNSUPPORTED = ("nsc", "user_jwt", "jetstream_domain", "jetstream_api_prefix")


def resolve(
    url: str | None = None,
    context: str | None = None,
    creds: Path | str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> ServerAddress:
    """The address that the arguments name, else the environment, else the selected context, else localhost.

    `environ` and `home` are this process's by default.

    `NATS_URL` and `NATS_CONTEXT` count when neither url nor context is given, the selected context when none of
    the four is: a login is never sent to a server that it was not meant for. A url given with a context replaces
    the context's own. Credentials (`creds`, else `NATS_CREDS` unless a context is given) replace any other login.

    Raises `AddressUnusable` for a context that is missing, unreadable, or needs what regrow does not support.
    """
    environ = os.environ if environ is None else environ
    home = Path.home() if home is None else home
    if context is None:
        creds = creds or environ.get("NATS_CREDS")
    if url is None and context is None:
        url, context = environ.get("NATS_URL"), environ.get("NATS_CONTEXT")
    folder = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "nats"
    if not url and not context:
        context = selected_context(folder)
    found = read_context(folder, context) if context else Context()
    if creds:
        found = msgspec.structs.replace(found, creds=str(creds), nkey="", token="", user="", password="")
    return address(msgspec.structs.replace(found, url=url or found.url), home)


def selected_context(folder: Path) -> str | None:
    """The name that `nats context select` noted."""
    try:
        return (folder / "context.txt").read_text().strip()
    except FileNotFoundError:
        return None


def read_context(folder: Path, name: str) -> Context:
    """The context of that name; `AddressUnusable` says what is wrong with it."""
    what = f"context {name!r}"
    if "/" in name or ".." in name:
        raise AddressUnusable(what, "its name is none of a context")
    try:
        context = msgspec.json.decode((folder / "context" / f"{name}.json").read_bytes(), type=Context)
    except FileNotFoundError:
        raise AddressUnusable(what, "it does not exist; `nats context ls` lists those that do") from None
    except (OSError, msgspec.DecodeError) as exc:
        raise AddressUnusable(what, str(exc)) from exc
    for setting in UNSUPPORTED:
        if getattr(context, setting):
            raise AddressUnusable(what, f"it uses {setting}, which regrow does not support")
    return context


def address(context: Context, home: Path) -> ServerAddress:
    """The address that a context means; `~` in paths is the home directory."""

    def path(text: str) -> Path | None:
        return Path(re.sub(r"^~(?=/)", str(home), text)) if text else None

    return ServerAddress(
        url=context.url or DEFAULT_URL,
        creds=path(context.creds),
        nkey=path(context.nkey),
        token=context.token or None,
        user=context.user or None,
        password=context.password or None,
        inbox_prefix=context.inbox_prefix or "_INBOX",
        ca=path(context.ca),
        cert=path(context.cert),
        key=path(context.key),
        tls_first=context.tls_first,
    )


async def connect(
    address: ServerAddress,
    *,
    name: str,
    timeout_s: float = CONNECT_TIMEOUT_S,
    on_disconnect: Callable[[], None] | None = None,
    on_reconnect: Callable[[], None] | None = None,
    on_error: Callable[[BusError], None] | None = None,
) -> Client:
    """A connected client; from then on it reconnects by itself, for ever, until it is closed.

    The callbacks run in the event loop and must not block. `on_error` gets what no call of the client raises:
    `AccessDenied` for a refused subject (a publish to it just never arrives) unless somebody waited for the answer, whose
    error it is then, and `ConnectionLost` when the server ended the connection for good.

    Raises `Unreachable` when no server answers in time, `AccessDenied` when it refuses the login,
    `AddressUnusable` when credentials cannot be read or certificates do not fit, `ServerTooOld`, and
    `StoreUnavailable` when it runs without JetStream.
    """
    client = BusClient()
    watch = Watch(client, str(address), on_disconnect, on_reconnect, on_error)
    try:
        async with asyncio.timeout(timeout_s):
            await dial(client, address, {**options(address, name), **watch.callbacks})
            check_version(str(client.connected_server_version))
            await check_jetstream(client)
    except TimeoutError as exc:
        await abandon(client)
        raise watch.denied or Unreachable(str(address)) from watch.reported or exc
    except AddressUnusable:  # nothing is open
        raise
    except BaseException:
        await abandon(client)
        raise
    watch.connected = True
    log.info("connected", url=str(address), name=name)
    return client


async def close(client: Client) -> None:
    """Closes a client. Closed while its connection is broken, nats-py reports a cancellation that nobody asked for; that is the end too."""
    try:
        await client.close()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


async def dial(client: Client, address: ServerAddress, options: Mapping[str, Any]) -> None:
    """Connect, for as long as it takes: nats-py tries again by itself, also the first time."""
    try:
        await client.connect(**options)
    except NatsError as exc:  # every other one it keeps to itself and tries again
        raise AddressUnusable(str(address), str(exc)) from exc


async def abandon(client: Client) -> None:
    """Close what a failed attempt has left open, but not for ever, as nats-py would after a failed handshake."""
    if client.is_connecting or client.is_connected:
        with anyio.move_on_after(CLOSE_TIMEOUT_S):
            await client.close()


def options(address: ServerAddress, name: str) -> dict[str, Any]:
    """What nats-py is told; `AddressUnusable` when a file of the address is not what it should be.

    The files are read here first: nats-py takes a missing one for a network error, and loops over a broken one.
    """
    return {
        "servers": address.servers,
        "name": name,
        "user": address.user,
        "password": address.password,
        "token": address.token,
        "user_credentials": checked_creds(address.creds) if address.creds else None,
        "nkeys_seed_str": read_seed(address.nkey) if address.nkey else None,
        "tls": tls_context(address) if address.ca or address.cert else None,
        "tls_handshake_first": address.tls_first,
        "inbox_prefix": address.inbox_prefix,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RECONNECT_WAIT_S,
        "ping_interval": PING_INTERVAL_S,
        "pending_size": PENDING_BYTES_MAX,
    }


def checked_creds(path: Path) -> str:
    """The path, when a credentials file is there."""
    text = read_login(path)
    if "BEGIN NATS USER JWT" not in text or "BEGIN USER NKEY SEED" not in text:
        raise AddressUnusable(str(path), "it is not a NATS credentials file")
    return str(path)


def read_seed(path: Path) -> str:
    """The user's seed in an nkey file."""
    seed = read_login(path).strip()
    if not re.fullmatch("SU[A-Z2-7]{56}", seed):
        raise AddressUnusable(str(path), "it is not the nkey seed of a user")
    return seed


def read_login(path: Path) -> str:
    """A file of credentials, when it is of any use here."""
    if importlib.util.find_spec("nkeys") is None:
        raise AddressUnusable(str(path), "to log in with it, pip install 'regrow[creds]'")
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise AddressUnusable(str(path), str(exc)) from exc


def tls_context(address: ServerAddress) -> ssl.SSLContext:
    """Trust in the address's authority, else in the system's, and our certificate if there is one."""
    try:
        context = ssl.create_default_context(cafile=address.ca)
        if address.cert:
            context.load_cert_chain(address.cert, address.key)
    except OSError as exc:  # an SSLError is one
        raise AddressUnusable(str(address.ca or address.cert), str(exc)) from exc
    return context


async def check_jetstream(client: Client) -> None:
    """Raise `StoreUnavailable` when the server, or our account on it, has no JetStream."""
    try:
        answer = await client.request("$JS.API.INFO", timeout=CONNECT_TIMEOUT_S)
    except NoRespondersError as exc:
        raise StoreUnavailable("the server runs without JetStream, which is switched on by its option -js") from exc
    if error := msgspec.json.decode(answer.data).get("error"):
        raise StoreUnavailable(f"the server says: {error['description']}")


class Watch:
    """What nats-py's callbacks tell, in the words of the bus, to the log and to the owner."""

    def __init__(
        self,
        client: BusClient,
        url: str,
        on_disconnect: Callable[[], None] | None,
        on_reconnect: Callable[[], None] | None,
        on_error: Callable[[BusError], None] | None,
    ) -> None:
        self.connected = False
        self.denied: AccessDenied | None = None
        self.reported: Exception | None = None
        self._client = client
        self._url = url
        self._on_disconnect = on_disconnect
        self._on_reconnect = on_reconnect
        self._on_error = on_error

    @property
    def callbacks(self) -> dict[str, Callable[..., Awaitable[None]]]:
        """As `Client.connect` takes them."""
        return {
            "error_cb": self.failed,
            "disconnected_cb": self.disconnected,
            "reconnected_cb": self.reconnected,
            "closed_cb": self.closed,
        }

    async def failed(self, error: Exception) -> None:
        """One of: a refused subject, a refused login, messages dropped, an attempt to connect that failed."""
        self.reported = error
        text = str(error).lower()
        if "permissions violation" in text:
            self._subject_refused(text)
        elif "authorization" in text or "authentication" in text:
            self._login_refused(error)
        elif isinstance(error, ssl.SSLError) and not self.connected:
            raise AddressUnusable(self._url, str(error)) from error
        elif isinstance(error, SlowConsumerError):
            log.error("messages dropped", subject=error.subject)
        else:
            log.debug("not connected", error=text)

    async def disconnected(self) -> None:
        if self.connected and not self._client.is_closed:
            log.warning("disconnected")
            if self._on_disconnect:
                self._on_disconnect()

    async def reconnected(self) -> None:
        self.denied = None
        log.info("reconnected")
        if self._on_reconnect:
            self._on_reconnect()

    async def closed(self) -> None:
        """Tell the owner, unless it was the one who closed: then there is no error that `failed` has not seen."""
        error = self._client.last_error
        if self.connected and error is not None and error is not self.reported:
            log.error("connection lost", error=str(error))
            self._tell(ConnectionLost(str(error).removeprefix("nats: ")))

    def _subject_refused(self, text: str) -> None:
        subject = re.search(r'(for publish )?to "([^"]*)"', text)
        if subject and subject.group(1) and self._client.deny(subject.group(2)):
            log.debug("access denied", subject=subject.group(2))
            return
        self.denied = AccessDenied(subject.group(2) if subject else "")
        log.warning("access denied", subject=self.denied.subject)
        self._tell(self.denied)

    def _login_refused(self, error: Exception) -> None:
        """At first, raise out of `Client.connect`, which would try again; later tell it once, while it does so."""
        if not self.connected:
            raise AccessDenied from error
        if self.denied is None:
            self.denied = AccessDenied()
            log.error("login refused, trying again")
            self._tell(self.denied)

    def _tell(self, error: BusError) -> None:
        if self.connected and self._on_error:
            self._on_error(error)
