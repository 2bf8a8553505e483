"""What exceptions mean that carry no answer of a server: clients and libraries by name, the operating system by its number.

Nothing is imported to be recognised: a class is known by the package that it comes from and its own name, or by those of one that
it is derived from, the nearest first.
"""

import asyncio
import errno
import socket
import ssl
import subprocess
from collections.abc import Iterator
from itertools import chain, product

from regrow.actors.errors import DEFECT
from regrow.actors.failure_kind import (
    INFRASTRUCTURE,
    NETWORK,
    REJECTED,
    SEMANTIC,
    THROTTLED,
    Diagnosis,
)
from regrow.supervisor import Died, Exited, Killed, NodeLost, OutOfMemory, Preempted, TimedOut


def _named(kind: str, packages: str, classes: str) -> Iterator[tuple[str, str]]:
    """Each of these classes of each of these packages is of that kind."""
    return ((f"{package}.{name}", kind) for package, name in product(packages.split(), classes.split()))


BY_NAME = dict(
    chain(
        _named(NETWORK, "httpx httpx2", "TransportError DecodingError"),
        _named(REJECTED, "httpx httpx2", "UnsupportedProtocol InvalidURL TooManyRedirects"),
        _named(DEFECT, "httpx httpx2", "LocalProtocolError"),
        _named(NETWORK, "openai anthropic", "APIError"),
        _named(SEMANTIC, "openai", "LengthFinishReasonError ContentFilterFinishReasonError"),
        _named(REJECTED, "openai anthropic", "OpenAIError AnthropicError"),
        _named(NETWORK, "requests", "ConnectionError Timeout ChunkedEncodingError ContentDecodingError"),
        _named(NETWORK, "aiohttp", "ClientConnectionError ClientPayloadError"),
        _named(NETWORK, "urllib", "URLError"),
        _named(
            NETWORK,
            "nats",
            "TimeoutError ConnectionClosedError ConnectionDrainingError ConnectionReconnectingError NoRespondersError "
            "NoServersError OutboundBufferLimitError SlowConsumerError StaleConnectionError",
        ),
        _named(
            REJECTED,
            "nats",
            "AuthorizationError BadSubjectError InvalidUserCredentialsError MaxPayloadError SecureConnRequiredError",
        ),
        _named(NETWORK, "regrow", "NoResponder"),
        _named(INFRASTRUCTURE, "regrow", "DiskFull StoreFull StoreUnavailable StoreNotWritable"),
        _named(THROTTLED, "regrow", "MailboxFull"),
        _named(REJECTED, "regrow", "AccessDenied AddressUnusable"),
        _named(SEMANTIC, "json", "JSONDecodeError"),
        _named(SEMANTIC, "msgspec", "DecodeError ValidationError"),
        _named(SEMANTIC, "pydantic_core pydantic", "ValidationError"),
        _named(INFRASTRUCTURE, "concurrent", "BrokenProcessPool"),
    )
)
"""Kinds by package and class."""
DISTANT = frozenset(
    (errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETRESET, errno.EADDRNOTAVAIL)
)
"""What the operating system says of a network."""
EXHAUSTED = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EAGAIN, errno.EBUSY)
)
"""What it says of a machine that has nothing left."""
SQLITE_EXHAUSTED = frozenset((5, 6, 7, 10, 13, 14))
"""SQLite's busy, locked, out of memory, I/O error, full, cannot open (its "Result and error codes")."""
KILLED_CODES = frozenset((128 + 9, 128 + 15))
"""How a shell says that a signal ended a command: killed, terminated."""


def own_failure(error: BaseException) -> Diagnosis | None:
    """What an exception says of itself, by an attribute ``kind`` and, if it likes, one ``retry_after_s``."""
    kind, after_s = getattr(error, "kind", None), getattr(error, "retry_after_s", None)
    if not isinstance(kind, str):
        return None
    return Diagnosis(kind, float(after_s) if isinstance(after_s, int | float) else None)


def named_failure(error: BaseException) -> Diagnosis | None:
    """What its class means, or the nearest one above it that is known."""
    for each in type(error).__mro__:
        kind = BY_NAME.get(f"{each.__module__.partition('.')[0]}.{each.__qualname__}")
        if kind is not None:
            return Diagnosis(kind)
    return None


def system_failure(error: BaseException) -> Diagnosis | None:
    """What the operating system, a process or a local database means."""
    kind = _of_system(error)
    return Diagnosis(kind) if kind is not None else None


def _of_system(error: BaseException) -> str | None:
    match error:
        case MemoryError():
            return INFRASTRUCTURE
        case Died(cause=Killed() | OutOfMemory() | Preempted() | NodeLost() | TimedOut()):
            return INFRASTRUCTURE
        case Died(cause=Exited(code)) | subprocess.CalledProcessError(returncode=code):
            return INFRASTRUCTURE if code < 0 or code in KILLED_CODES else None
        case subprocess.TimeoutExpired():
            return INFRASTRUCTURE
        case ssl.SSLCertVerificationError():
            return REJECTED
        case ConnectionError() | TimeoutError() | socket.gaierror() | ssl.SSLError() | asyncio.IncompleteReadError():
            return NETWORK
        case OSError(errno=number) if number in DISTANT:
            return NETWORK
        case OSError(errno=number) if number in EXHAUSTED:
            return INFRASTRUCTURE
        case _:
            number = getattr(error, "sqlite_errorcode", None)  # whose low byte is the primary code
            return INFRASTRUCTURE if isinstance(number, int) and number & 0xFF in SQLITE_EXHAUSTED else None
