"""A program with its guards, seen from the process that started it.

Everything runs in the owner's event loop; there is no thread and no task. Loops differ in how they watch children, so
the guard is started without the loop, and its socket says what happens.
"""

import asyncio
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from errno import ECHILD
from pathlib import Path
from typing import Final

import structlog

from regrow.workers import guard
from regrow.workers.ending import Ending
from regrow.workers.output import Output, Reader

GUARD_S: Final = guard.KILLING_S + 2.0
"""How long the guard may take for its own work, before it is killed as well."""
POLL_S: Final = 0.005
SWEEP_S: Final = 0.01
SWEEPS_MAX: Final = 500
REPORT: Final = "REGROW_REPORT"
"""The environment variable that names the descriptor on which a Python child says what happens to it."""

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is to be started, and how it is limited; sizes in bytes, 0 for no limit."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None = None
    logs_stderr: bool = True
    memory_max_bytes: int = 0
    address_space_max_bytes: int = 0


class Program:
    """A running program: wait until it runs, wait for its end, stop it with all that it has started.

    `on_line` sees each line of its output. With `on_report` it gets a pipe, named by `REGROW_REPORT`, and what it
    writes there is handed over line by line.
    """

    def __init__(
        self, launch: Launch, on_line: Callable[[str], None], on_report: Callable[[str], None] | None = None
    ) -> None:
        self.ending: Ending | None = None
        """How it ended; None as long as it runs, and when both guards were killed, so that nobody knows."""
        self._launch = launch
        self._started = asyncio.Event()
        self._ended = asyncio.Event()
        self._failed: OSError | None = None
        self._pid = 0
        self._heard = b""
        self._mark = secrets.token_hex(8)
        self._sweeps = 0
        self._overdue: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._control, theirs = socket.socketpair()
        with ExitStack() as undo, theirs:
            undo.callback(self._control.close)
            streams = ("stdout", "stderr") if launch.logs_stderr else ("stdout",)
            pipes = {stream: _pipe(undo) for stream in (*streams, *(("report",) if on_report else ()))}
            try:
                self._guard = self._start(theirs.fileno(), {stream: written for stream, (_, written) in pipes.items()})
            finally:
                for _, written in pipes.values():
                    os.close(written)
            undo.pop_all()
        self._readers: list[Output | Reader] = [
            Output(launch.name, stream, pipes[stream][0], on_line) for stream in streams
        ]
        if on_report is not None:
            self._readers.append(Reader(pipes["report"][0], on_report))
        if not guard.LISTS_DESCENDANTS:
            _log.warning("child_guarded_by_group_only", child=launch.name, platform=sys.platform)
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._hear)

    async def wait_started(self) -> int:
        """Its pid, once it runs; raises the OSError for which it cannot."""
        await self._started.wait()
        if self._failed is not None:
            raise self._failed
        return self._pid

    async def wait_ended(self) -> None:
        """Return when neither it nor anything that it started is left."""
        await self._ended.wait()

    async def stop(self, patience_s: float) -> None:
        """TERM to its group, KILL to all of it when the patience is over; return when nothing is left.

        Cancelled while it waits it kills at once, waits for that, and passes the cancellation on.
        """
        self._ask(f"stop {patience_s}", patience_s)
        interrupted: asyncio.CancelledError | None = None
        while not self._ended.is_set():
            try:
                await self._ended.wait()
            except asyncio.CancelledError as error:
                interrupted = error
                self._ask("kill", 0)
        if interrupted is not None:
            raise interrupted

    def _start(self, control: int, pipes: Mapping[str, int]) -> subprocess.Popen[bytes]:
        launch, report = self._launch, pipes.get("report", 0)
        options = f"memory={launch.memory_max_bytes} space={launch.address_space_max_bytes} report={report}"
        env = {**launch.env, guard.MARK: self._mark}
        return subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, *options.split(), "--", *launch.argv],
            stdin=control,
            stdout=pipes["stdout"],
            stderr=pipes.get("stderr"),
            pass_fds=(report,) if report else (),
            env={**env, REPORT: str(report)} if report else env,
            cwd=launch.cwd,
            start_new_session=True,  # a terminal's Ctrl-C is for its owner to judge
        )

    def _ask(self, request: str, patience_s: float) -> None:
        if self._ended.is_set():
            return
        with suppress(OSError):  # the guards are gone, or stopped and their socket full
            self._control.send(request.encode() + b"\n")
        if self._overdue is not None:
            self._overdue.cancel()
        self._overdue = self._loop.call_later(patience_s + GUARD_S, self._kill_guards)

    def _kill_guards(self) -> None:
        _log.error("child_guard_hangs", child=self._launch.name, pid=self._pid)
        guard.sweep(self._guard.pid, self._mark)

    def _hear(self) -> None:
        try:
            said = self._control.recv(4096)
        except BlockingIOError:
            return
        except ConnectionResetError:  # it died with something unread
            said = b""
        if not said:
            self._loop.remove_reader(self._control)
            self._sweep()
            return
        *lines, self._heard = (self._heard + said).split(b"\n")
        for line in lines:
            self._understand(*line.decode().split())

    def _understand(self, word: str, *values: str) -> None:
        if word == "started":
            self._pid = int(values[0])
        elif word == "failed":
            number = int(values[0])
            self._failed = OSError(number, os.strerror(number), self._launch.argv[0])
        else:
            self.ending = Ending.parse(values)
            return
        self._started.set()

    def _sweep(self) -> None:
        """Both guards are gone: kill what they left, if they could not do it themselves."""
        is_lost = self.ending is None and self._failed is None
        if is_lost and self._sweeps == 0:
            _log.error("child_has_lost_its_guards", child=self._launch.name, pid=self._pid)
        if is_lost and guard.sweep(self._pid, self._mark) and self._sweeps < SWEEPS_MAX:
            self._sweeps += 1
            self._loop.call_later(SWEEP_S, self._sweep)
            return
        self._reap()

    def _reap(self) -> None:
        if self._guard.poll() is None:  # its socket is closed a little before it can be waited for
            self._loop.call_later(POLL_S, self._reap)
            return
        self._close()

    def _close(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
        self._control.close()
        for reader in self._readers:
            reader.close()
        if self.ending is not None and self.ending.left:
            _log.error("child_left_processes", child=self._launch.name, processes=self.ending.left)
        if not self._started.is_set():
            self._failed = OSError(ECHILD, "its guard ended before it was started", self._launch.argv[0])
            self._started.set()
        self._ended.set()


def _pipe(undo: ExitStack) -> tuple[int, int]:
    read, written = os.pipe()
    undo.callback(os.close, read)
    return read, written
