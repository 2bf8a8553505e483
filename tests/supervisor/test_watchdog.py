"""The hang detector on real event loops; whoever blocks one here is let go by the report of it."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from regrow.supervisor import InvalidOption
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.process import processes
from regrow.supervisor.watchdog import FRAMES_MAX, Blocked, Unblocked, Watchdog

AFTER_S = 0.02
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine on one of the event loops."""

    def on_loop(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(work)

    return on_loop


class Ear:
    """Hears a watchdog's reports, in its thread, and can be waited for in any other."""

    def __init__(self) -> None:
        self.reports: list[Blocked | Unblocked] = []
        self._blocked = threading.Event()
        self._unblocked = threading.Event()

    def __call__(self, report: Blocked | Unblocked) -> None:
        found = report if isinstance(report, Blocked) else report.blocked
        if found is None or not found.at.endswith(("block_until_reported", "spin")):
            return  # a busy machine may hold the loop up anywhere
        self.reports.append(report)
        (self._blocked if isinstance(report, Blocked) else self._unblocked).set()

    def block_until_reported(self) -> None:
        secret = "hunter2"
        assert self._blocked.wait(30), secret
        self._blocked.clear()

    async def wait_unblocked(self) -> None:
        await asyncio.to_thread(self._unblocked.wait, 30)
        self._unblocked.clear()

    def blockings(self) -> list[Blocked]:
        return [each for each in self.reports if isinstance(each, Blocked)]


Run = Callable[[Coroutine[Any, Any, None]], None]


def test_a_blocked_loop_is_reported_with_the_line_and_the_task_that_block_it(run: Run) -> None:
    ear = Ear()

    async def blocks(me: Mortal) -> None:
        ear.block_until_reported()

    async def main() -> None:
        async with Watchdog(blocked_after_s=AFTER_S, listener=ear), processes() as space:
            await space.spawn(blocks, name="culprit").wait_gone()
            await ear.wait_unblocked()

    run(main())
    (found,) = ear.blockings()
    assert found.task == "process culprit"
    assert found.blocked_s >= AFTER_S
    file, line, name = found.at.replace(" ", ":").split(":")
    assert (file, line.isdigit(), name) == (__file__, True, "Ear.block_until_reported")
    assert "threading.py" in found.stack[0]
    assert not [line for line in found.stack if "run_forever" in line]
    assert found.at in found.stack


def test_each_blocking_is_logged_once_and_once_more_when_it_ends(run: Run) -> None:
    ear = Ear()

    async def main() -> None:
        async with Watchdog(blocked_after_s=AFTER_S, listener=ear):
            for _ in range(2):
                ear.block_until_reported()
                await ear.wait_unblocked()

    with capture_logs() as logs:
        run(main())
    logs = [log for log in logs if str(log["at"]).endswith("block_until_reported")]
    assert [log["event"] for log in logs] == ["event_loop_blocked", "event_loop_unblocked"] * 2
    assert all(log["log_level"] == "warning" for log in logs)
    assert logs[1]["blocked_s"] >= logs[0]["blocked_s"]
    assert logs[0]["at"] == logs[1]["at"]
    assert isinstance(ear.reports[1], Unblocked)
    assert ear.reports[1].blocked == ear.reports[0]


def test_no_value_of_a_variable_is_logged(run: Run) -> None:
    ear = Ear()

    async def main() -> None:
        async with Watchdog(blocked_after_s=AFTER_S, listener=ear):
            ear.block_until_reported()

    with capture_logs() as logs:
        run(main())
    assert logs
    assert "hunter2" not in repr(logs)


def test_a_plain_callback_that_blocks_belongs_to_no_task(run: Run) -> None:
    ear = Ear()

    async def main() -> None:
        async with Watchdog(blocked_after_s=AFTER_S, listener=ear):
            asyncio.get_running_loop().call_soon(ear.block_until_reported)
            await ear.wait_unblocked()

    run(main())
    (found,) = ear.blockings()
    assert found.task is None
    assert "block_until_reported" in found.at


def test_who_takes_a_turn_in_a_shared_task_is_reported_by_the_name_that_is_known_of_it(run: Run) -> None:
    ear = Ear()

    async def blocks(me: Mortal) -> None:
        ear.block_until_reported()

    async def main() -> None:
        known: dict[asyncio.Task[Any] | None, str] = {asyncio.current_task(): "actor counter/a"}
        async with Watchdog(blocked_after_s=AFTER_S, listener=ear, name_of=known.get), processes() as space:
            ear.block_until_reported()
            await ear.wait_unblocked()
            await space.spawn(blocks, name="unknown").wait_gone()
            await ear.wait_unblocked()

    run(main())
    assert [each.task for each in ear.blockings()] == ["actor counter/a", "process unknown"]


def test_a_loop_that_is_kept_busy_in_python_is_noticed(run: Run) -> None:
    ear = Ear()

    async def spin() -> None:
        while not ear.reports:
            pass

    async def main() -> None:
        async with Watchdog(blocked_after_s=AFTER_S, listener=ear):
            await spin()

    run(main())
    assert ear.blockings()[0].at.endswith("spin")


def test_the_frames_of_a_deep_stack_are_bounded_and_the_innermost_are_shown(run: Run) -> None:
    ear = Ear()

    def dig(depth: int) -> None:
        if depth:
            dig(depth - 1)
        else:
            ear.block_until_reported()

    async def main() -> None:
        async with Watchdog(blocked_after_s=AFTER_S, listener=ear):
            dig(100)

    run(main())
    (found,) = ear.blockings()
    assert len(found.stack) == FRAMES_MAX
    assert found.stack[-1].endswith("dig")


def test_a_loop_that_only_waits_is_not_blocked(run: Run) -> None:
    ear = Ear()

    async def main() -> None:
        async with Watchdog(blocked_after_s=5.0, listener=ear) as watchdog:
            while not watchdog.rounds:
                await asyncio.to_thread(os.getpid)

    run(main())
    assert ear.reports == []


def test_an_end_of_the_block_right_after_a_blocking_still_reports_its_end(run: Run) -> None:
    ear = Ear()

    async def main() -> None:
        async with Watchdog(blocked_after_s=AFTER_S, listener=ear):
            ear.block_until_reported()

    run(main())
    assert [type(each) for each in ear.reports] == [Blocked, Unblocked]


def test_no_thread_is_left_however_the_block_ends(run: Run) -> None:
    async def main() -> None:
        async with Watchdog():
            asyncio.current_task().cancel()  # type: ignore[union-attr] # pyright: ignore[reportOptionalMemberAccess]
            await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        run(main())
    assert "watchdog" not in {each.name for each in threading.enumerate()}


def test_a_watchdog_watches_one_loop_at_a_time(run: Run) -> None:
    async def main() -> None:
        async with Watchdog() as watchdog:
            with pytest.raises(InvalidOption, match="on watch already"):
                async with watchdog:
                    pass

    run(main())


def test_the_time_after_which_a_loop_is_blocked_is_checked() -> None:
    with pytest.raises(InvalidOption, match="blocked_after_s"):
        Watchdog(blocked_after_s=0.0)


NEVER_LEFT = """
import asyncio
from regrow.supervisor.watchdog import Watchdog

async def enter():
    await Watchdog(blocked_after_s=0.02).__aenter__()

asyncio.new_event_loop().run_until_complete(enter())
"""


def test_a_program_that_never_leaves_the_block_still_ends() -> None:
    ended = subprocess.run([sys.executable, "-c", NEVER_LEFT], timeout=30, capture_output=True, check=False)
    assert ended.returncode == 0


def test_c_code_that_holds_the_gil_is_named_afterwards(run: Run) -> None:
    heard: list[Blocked | Unblocked] = []
    noticed = threading.Event()

    def hear(report: Blocked | Unblocked) -> None:
        heard.append(report)
        noticed.set()

    async def main() -> None:
        async with Watchdog(blocked_after_s=AFTER_S, listener=hear):
            ctypes.PyDLL(None).usleep(100_000)
            await asyncio.to_thread(noticed.wait, 30)

    run(main())
    assert heard[0].blocked_s >= AFTER_S


def test_a_process_that_was_stopped_from_outside_goes_on_watching() -> None:
    process = subprocess.Popen([sys.executable, "-c", PAUSED], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    for _ in range(3):
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        process.send_signal(signal.SIGCONT)
    process.stdin.write(b"block\n")
    process.stdin.flush()
    while b"Blocked main" not in process.stdout.readline():
        pass
    process.stdin.close()
    process.stdout.close()
    assert process.wait(30) == 0


PAUSED = """
import asyncio, sys
import structlog
from regrow.supervisor.watchdog import Watchdog

def tell(report):
    if type(report).__name__ == "Blocked" and "main" in report.at:
        print("Blocked main", flush=True)

async def main():
    async with Watchdog(blocked_after_s=0.02, listener=tell):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        sys.stdin.readline()

structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
asyncio.run(main())
"""
