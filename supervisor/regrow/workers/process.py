"""An OS process as a supervised child.

Its run is one coroutine and no thread: it starts the program under a guard (`regrow.workers.guard`), is ready when the
program says so, and ends by saying how the program died. Cancelled, it stops the program and all that it has started.
"""

import asyncio
import json
import math
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from regrow.supervisor import Backoff, ChildSpec, InvalidOption, Restart, Start
from regrow.supervisor.errors import Died
from regrow.supervisor.exits import Exit, Killed, OutOfMemory, TimedOut
from regrow.workers.environment import told
from regrow.workers.errors import ChildError
from regrow.workers.program import Launch, Program

Probe = Callable[[], Coroutine[Any, Any, object]]
SIGKILL: Final = 9
READY: Final = "ready"
"""What a program writes on its report pipe when it is ready."""
MARGIN_S: Final = 2.0
"""What the killing may take after `stop_s`, before a supervisor calls the child hung."""

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Process:
    """A program and its limits; `run` is the coroutine of a child, `process_child` makes the child.

    `env` is the whole environment, by default this process's own; `REGROW_CAUSE` and `REGROW_RESTARTS` are added.
    The program reads nothing, and what it prints goes to the log; without `logs_stderr` its standard error is this
    process's own, for a program that writes a log itself.

    It is ready at once; or when a line of its output contains `ready_line`; or when `ready_when()` has returned; a
    program that `reports` says so by itself, with the line `ready` in the pipe that `REGROW_REPORT` numbers, and an
    error that ends it there as `{"error": CLASS, "message": TEXT}`.

    `memory_max_bytes`: what its processes may use together, looked at every 20 ms. `address_space_max_bytes`: a limit
    of the kernel's for each of them (RLIMIT_AS). `timeout_s`: how long it may run, from its start. `stop_s`: how long
    it has to go after SIGTERM; then all of it is killed, as is all that it leaves behind when it ends by itself.

    The run raises `Died` with the cause: `Exited`, `Killed`, `OutOfMemory`, `TimedOut`; a `ChildError` when the
    program reported one; OSError when it cannot be started.
    """

    name: str
    argv: tuple[str, ...]
    _: KW_ONLY
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    memory_max_bytes: int | None = None
    address_space_max_bytes: int | None = None
    timeout_s: float | None = None
    stop_s: float = 5.0
    logs_stderr: bool = True
    ready_line: str | None = None
    ready_when: Probe | None = None
    reports: bool = False

    def __post_init__(self) -> None:
        if not self.argv:
            raise InvalidOption(f"process {self.name!r} needs a program to run")
        for option in ("memory_max_bytes", "address_space_max_bytes", "timeout_s"):
            value = getattr(self, option)
            if value is not None and not 0 < value < math.inf:
                raise InvalidOption(f"process {self.name!r}: {option} must be more than 0, not {value}")
        if not 0 <= self.stop_s < math.inf:
            raise InvalidOption(f"process {self.name!r}: stop_s must be 0 or more seconds, not {self.stop_s}")
        if (self.ready_line is not None) + (self.ready_when is not None) + self.reports > 1:
            raise InvalidOption(f"process {self.name!r} can be ready in one way: ready_line, ready_when or reports")

    async def run(self, start: Start) -> None:
        """Run the program until it ends, which is raised, or until this is cancelled."""
        await _Run(self, start).run()

    def launch(self, start: Start) -> Launch:
        """What is started for this start."""
        return Launch(
            name=self.name,
            argv=self.argv,
            env={**(os.environ if self.env is None else self.env), **told(start)},
            cwd=self.cwd,
            logs_stderr=self.logs_stderr,
            memory_max_bytes=self.memory_max_bytes or 0,
            address_space_max_bytes=self.address_space_max_bytes or 0,
        )


def process_child(
    process: Process,
    *,
    restart: Restart = "permanent",
    backoff: Backoff = Backoff(),  # noqa: B008 - a frozen value
    start_timeout_s: float = 30.0,
) -> ChildSpec:
    """The process as a supervisor's child, with the time that it needs to be stopped."""
    return ChildSpec(
        id=process.name,
        run=process.run,
        restart=restart,
        shutdown=process.stop_s + MARGIN_S,
        backoff=backoff,
        start_timeout_s=start_timeout_s,
    )


class _Run:
    """One run of a process."""

    def __init__(self, process: Process, start: Start) -> None:
        self._process = process
        self._start = start
        self._error: ChildError | None = None

    async def run(self) -> None:
        process = self._process
        program = Program(process.launch(self._start), self._on_line, self._on_report if process.reports else None)
        late = asyncio.timeout(process.timeout_s)
        try:
            async with late:
                await program.wait_started()
                await self._wait_ended(program)
        except TimeoutError:
            if not late.expired():
                raise
        finally:
            await program.stop(process.stop_s)
        self._raise(TimedOut(process.timeout_s) if late.expired() and process.timeout_s else self._cause(program))

    async def _wait_ended(self, program: Program) -> None:
        process = self._process
        if process.ready_when is None:
            if process.ready_line is None and not process.reports:
                self._start.ready()
            await program.wait_ended()
            return
        probe = asyncio.ensure_future(process.ready_when())
        end = asyncio.ensure_future(program.wait_ended())
        try:
            await asyncio.wait([probe, end], return_when=asyncio.FIRST_COMPLETED)
            if probe.done():
                probe.result()
                self._start.ready()
                await end
        finally:
            await _cancel(probe, end)

    def _on_line(self, line: str) -> None:
        if self._process.ready_line is not None and self._process.ready_line in line:
            self._start.ready()

    def _on_report(self, line: str) -> None:
        if line == READY:
            self._start.ready()
            return
        try:
            fields = json.loads(line)
            self._error = ChildError(str(fields["error"]), str(fields["message"]))
        except (ValueError, LookupError, TypeError):
            _log.warning("child_report_not_understood", child=self._process.name)

    def _cause(self, program: Program) -> Exit:
        limit = self._process.address_space_max_bytes or self._process.memory_max_bytes
        if self._error is not None and self._error.type_name == "MemoryError" and limit:
            self._error = None
            return OutOfMemory(limit, program.ending.peak_bytes or None if program.ending else None)
        return Killed(SIGKILL) if program.ending is None else program.ending.cause()

    def _raise(self, cause: Exit) -> None:
        if self._error is not None and not isinstance(cause, OutOfMemory | TimedOut):
            raise self._error
        raise Died(cause)


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    """End the tasks, whatever becomes of them, and wait for that."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
