"""What an exception means: those of libraries by their names, those of the system by their numbers, the rest by what is behind."""

import asyncio
import errno
import json
import socket
import sqlite3
import ssl
import subprocess
import sys
import urllib.error
from concurrent.futures.process import BrokenProcessPool
from email.message import Message as Headers
from pathlib import Path
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
import pytest

from regrow.actors import AskFailed, Classifier, Diagnosis, StepFailed, classify
from regrow.bus import MailboxFull, NoResponder, RequestTimeout, StoreFull
from regrow.supervisor import Crashed, Died, Exited, Killed, NodeLost, OutOfMemory, Preempted, TimedOut


class Brewing(Exception):
    """An application's own."""


class Coded(Exception):
    kind = "brewing"
    retry_after_s = 3


class Answered(Exception):
    """What other clients raise: the status here, the headers and the body there."""

    def __init__(self, **fields: Any) -> None:
        super().__init__("no")
        vars(self).update(fields)


class OfAiohttp(Answered):
    __module__ = "aiohttp.client_exceptions"


class Unread:
    status_code = 429

    @property
    def content(self) -> bytes:
        raise RuntimeError("not read")


class Read:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.status_code = 429
        self.headers = {"Retry-After": "2"}


def of_group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


def caused_by(cause: BaseException | None, depth: int = 1) -> Exception:
    error: Any = cause
    for _ in range(depth):
        outer = Brewing("outer")
        outer.__cause__ = error
        error = outer
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        # the system
        (ConnectionResetError("reset"), "network"),
        (BrokenPipeError(), "network"),
        (TimeoutError(), "network"),
        (socket.gaierror(socket.EAI_NONAME, "no such host"), "network"),
        (ssl.SSLError("handshake"), "network"),
        (ssl.SSLCertVerificationError("expired"), "rejected"),
        (asyncio.IncompleteReadError(b"", 3), "network"),
        (OSError(errno.EHOSTUNREACH, "no route"), "network"),
        (OSError(errno.ENOSPC, "no space"), "infrastructure"),
        (OSError(errno.EMFILE, "too many files"), "infrastructure"),
        (MemoryError(), "infrastructure"),
        (FileNotFoundError(errno.ENOENT, "no such file"), "defect"),
        (PermissionError(errno.EACCES, "no"), "defect"),
        (OSError("nothing said"), "defect"),
        # processes
        (subprocess.CalledProcessError(-9, "x"), "infrastructure"),
        (subprocess.CalledProcessError(137, "x"), "infrastructure"),
        (subprocess.CalledProcessError(1, "x"), "defect"),
        (subprocess.TimeoutExpired("x", 1.0), "infrastructure"),
        (BrokenProcessPool(), "infrastructure"),
        (Died(Killed(9)), "infrastructure"),
        (Died(OutOfMemory(1, None)), "infrastructure"),
        (Died(Preempted(1.0)), "infrastructure"),
        (Died(NodeLost("n")), "infrastructure"),
        (Died(TimedOut(1.0)), "infrastructure"),
        (Died(Exited(-9)), "infrastructure"),
        (Died(Exited(1)), "defect"),
        (Died(Crashed(ValueError())), "defect"),
        # the bus
        (nats.errors.TimeoutError(), "network"),
        (nats.errors.NoServersError(), "network"),
        (nats.errors.NoRespondersError(), "network"),
        (nats.errors.UnexpectedEOF(), "network"),
        (nats.errors.AuthorizationError(), "rejected"),
        (nats.errors.MaxPayloadError(), "rejected"),
        (nats.errors.Error(), "defect"),
        (nats.js.errors.NotFoundError(code=404), "rejected"),
        (nats.js.errors.ServiceUnavailableError(code=503), "network"),
        (nats.js.errors.ServerError(code=500), "network"),
        (RequestTimeout("s", 1.0), "network"),
        (NoResponder("s"), "network"),
        # what was said and does not fit
        (json.JSONDecodeError("no", "", 0), "semantic"),
        (msgspec.ValidationError("no"), "semantic"),
        # what says it itself
        (StepFailed("quota", "X", "no"), "quota"),
        (AskFailed("busy", 429, "later"), "busy"),
        # other clients of HTTP
        (urllib.error.HTTPError("u", 503, "x", Headers(), None), "network"),
        (urllib.error.URLError("unreachable"), "network"),
        (OfAiohttp(status=404), "rejected"),
        (Answered(status=404), "defect"),
        (Answered(code=404), "defect"),
        (Answered(status_code=429, body={"code": "insufficient_quota"}), "quota"),
        (Answered(response=Unread()), "throttled"),
        (Answered(response=Read(b'{"error": {"code": "insufficient_quota"}}')), "quota"),
        (Answered(response=Read(b"[1]")), "throttled"),
        (Answered(response=Read(b"\xff" * 100_000)), "throttled"),
        (Answered(status_code=200), "defect"),
        (Answered(status_code=True), "defect"),
        (Answered(status_code="404"), "defect"),
        # nothing known
        (ValueError("x"), "defect"),
        (caused_by(ConnectionResetError()), "network"),
        (caused_by(ConnectionResetError(), 7), "network"),
        (caused_by(ConnectionResetError(), 8), "defect"),
        (caused_by(None), "defect"),
        # several
        (of_group(ConnectionResetError(), ConnectionResetError()), "network"),
        (of_group(ConnectionResetError(), ValueError()), "defect"),
        (of_group(StepFailed("throttled", "X", "x"), ConnectionResetError()), "network"),
        (of_group(of_group(StepFailed("quota", "X", "x")), ConnectionResetError()), "quota"),
        (of_group(StepFailed("brewing", "X", "x"), ValueError()), "brewing"),
    ],
    ids=repr,
)
def test_an_exception_is_of_a_kind(error: Exception, kind: str) -> None:
    assert classify(error).kind == kind


def test_a_database_that_is_locked_or_full_is_no_fault_of_the_call(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    holder, other = sqlite3.connect(path), sqlite3.connect(path, timeout=0)
    try:
        holder.execute("create table t (x)")
        holder.execute("begin exclusive")
        with pytest.raises(sqlite3.OperationalError) as locked:
            other.execute("insert into t values (1)")
        holder.execute("rollback")
        with pytest.raises(sqlite3.OperationalError) as wrong:
            other.execute("selekt")
        other.execute("pragma max_page_count=2")
        with pytest.raises(sqlite3.OperationalError) as full:
            other.execute("insert into t values (zeroblob(1000000))")
    finally:
        holder.close()
        other.close()
    assert [classify(each.value).kind for each in (locked, full, wrong)] == [
        "infrastructure",
        "infrastructure",
        "defect",
    ]


def test_a_process_that_a_signal_ended_is_no_fault_of_the_call() -> None:
    suicide = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(subprocess.CalledProcessError) as killed:
        subprocess.run([sys.executable, "-c", suicide], check=True)
    assert classify(killed.value).kind == "infrastructure"


@pytest.mark.parametrize(
    ("error", "after_s"),
    [
        (Coded(), 3.0),
        (StepFailed("throttled", "X", "x", 2.5), 2.5),
        (StepFailed("throttled", "X", "x"), None),
        (Answered(response=Read(b"")), 2.0),
        (OfAiohttp(status=429, headers={"retry-after": "4"}), 4.0),
        (Answered(status_code=429, headers={"retry-after": 4}), 4.0),
        (Answered(status_code=429, headers=["retry-after"]), None),
        (of_group(StepFailed("throttled", "X", "x", 2.5), StepFailed("throttled", "X", "x", 9.0)), 9.0),
        (caused_by(Answered(response=Read(b""))), 2.0),
    ],
    ids=repr,
)
def test_how_long_to_wait_goes_along(error: Exception, after_s: float | None) -> None:
    assert classify(error).retry_after_s == after_s


def test_a_rule_of_one_s_own_is_asked_first_and_the_others_after_it() -> None:
    def brew(error: BaseException) -> Diagnosis | None:
        return Diagnosis("throttled", 5.0) if isinstance(error, Brewing | ConnectionError) else None

    own = classify.first((brew,))
    assert own(Brewing()) == own(ConnectionResetError()) == Diagnosis("throttled", 5.0)
    assert own(MemoryError()) == Diagnosis("infrastructure")
    assert classify.first(()) is classify
    assert Classifier(rules=(brew,))(MemoryError()) == Diagnosis("defect")
    assert classify(Brewing()) == Diagnosis("defect")


def test_a_full_mailbox_says_later_and_a_full_store_does_not() -> None:
    assert classify(MailboxFull("m")).kind == "throttled"
    assert classify(StoreFull("s")).kind == "infrastructure"
