import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.workers.conftest import Witness
from tests.workers.observed import Observed

from regrow.supervisor import InvalidOption, StartFailed, Supervisor
from regrow.supervisor.exits import Crashed, Exited, Hung, Killed, Shutdown
from regrow.workers import ChildError, Process, process_child

STUBBORN = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(b"stubborn\\n")
while True:
    signal.pause()
"""


def shell(script: str, **options: Any) -> Process:
    return Process("shell", ("/bin/sh", "-c", script), **options)


def build(argv: tuple[str, ...] = ("true",), **options: Any) -> Process:
    return Process("p", argv, **options)


def stubborn(witness: Witness, **options: Any) -> Process:
    return Process("stubborn", (sys.executable, "-I", "-S", "-c", STUBBORN, str(witness.path)), **options)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> set[str]:
    """Of this process, the dead whom nobody has waited for among them."""
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()}


@pytest.fixture
def leaves_no_child() -> Iterator[None]:
    """Beside those that were there before, such as a server of other tests."""
    before = children()
    yield
    assert children() <= before


@pytest.mark.asyncio
async def test_what_a_program_prints_is_in_the_log_with_its_name() -> None:
    child = Observed(shell("echo out; echo err >&2"))
    with capture_logs() as logs:
        async with Supervisor("root", children=[child.child(restart="transient")]):
            assert await child.ends.get() == Exited(0)
    said = [(each["child"], each["stream"], each["line"]) for each in logs if each["event"] == "child_output"]
    assert sorted(said) == [("shell", "stderr", "err"), ("shell", "stdout", "out")]


@pytest.mark.asyncio
async def test_a_program_that_writes_a_log_itself_has_this_process_s_standard_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    child = Observed(shell("echo out; echo err >&2", logs_stderr=False))
    with capture_logs() as logs:
        async with Supervisor("root", children=[child.child(restart="temporary")]):
            assert await child.ends.get() == Exited(0)
    assert [each["line"] for each in logs if each["event"] == "child_output"] == ["out"]
    assert capfd.readouterr().err == "err\n"


@pytest.mark.asyncio
async def test_a_program_is_ready_when_it_has_printed_its_line() -> None:
    child = Observed(shell("read -r nothing; echo listening on 4; exec sleep 600", ready_line="listening"))
    async with Supervisor("root", children=[child.child()]) as tree:
        (info,) = tree.which_children()
        assert info.state == "running"


@pytest.mark.asyncio
async def test_a_program_that_ends_before_its_line_has_not_started() -> None:
    child = Observed(shell("exit 4", ready_line="listening"))
    with pytest.raises(StartFailed) as caught:
        async with Supervisor("root", children=[child.child()]):
            pass
    assert caught.value.cause == Exited(4)


@pytest.mark.asyncio
async def test_a_program_is_ready_when_the_probe_has_returned() -> None:
    probed = asyncio.Event()
    child = Observed(shell("exec sleep 600", ready_when=probed.wait))
    async with Supervisor("root", children=[]) as tree:
        entering = asyncio.ensure_future(tree.start_child(child.child()))
        await child.starts.get()
        assert child.ready.empty()
        probed.set()
        await entering
        assert not child.ready.empty()


@pytest.mark.asyncio
async def test_a_program_in_any_language_may_report_its_readiness_and_its_error() -> None:
    script = """echo ready >&$REGROW_REPORT; echo nonsense >&$REGROW_REPORT
        echo '{"error": "NoRoute", "message": "to b"}' >&$REGROW_REPORT; exit 1"""
    child = Observed(Process("bash", ("/bin/bash", "-c", script), reports=True))
    with capture_logs() as logs:
        async with Supervisor("root", children=[child.child(restart="temporary")]):
            assert await child.ends.get() == Crashed(ChildError("NoRoute", "to b"))
    assert not child.ready.empty()
    assert "child_report_not_understood" in [each["event"] for each in logs]


@pytest.mark.asyncio
async def test_an_error_of_the_probe_is_the_death_of_the_child() -> None:
    async def probe() -> None:
        raise ConnectionRefusedError("no answer")

    child = Observed(shell("exec sleep 600", ready_when=probe))
    with pytest.raises(StartFailed) as caught:
        async with Supervisor("root", children=[child.child()]):
            pass
    assert isinstance(caught.value.cause, Crashed)
    assert isinstance(caught.value.cause.error, ConnectionRefusedError)


@pytest.mark.asyncio
async def test_a_program_that_ends_while_it_is_probed_died_of_its_own_cause() -> None:
    child = Observed(shell("kill -KILL $$", ready_when=asyncio.Event().wait))
    with pytest.raises(StartFailed) as caught:
        async with Supervisor("root", children=[child.child()]):
            pass
    assert caught.value.cause == Killed(signal.SIGKILL)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("process", "error"),
    [
        (Process("missing", ("/no/such/program",)), FileNotFoundError),
        (Process("forbidden", ("/etc/passwd",)), PermissionError),
        (Process("nowhere", ("true",), cwd=Path("/no/such/folder")), FileNotFoundError),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_a_program_that_cannot_be_started_says_why_and_leaves_nothing(
    process: Process, error: type[OSError]
) -> None:
    open_before = descriptors()
    with pytest.raises(StartFailed) as caught:
        async with Supervisor("root", children=[process_child(process)]):
            pass
    assert isinstance(caught.value.cause, Crashed)
    assert type(caught.value.cause.error) is error
    assert descriptors() == open_before


@pytest.mark.asyncio
async def test_a_program_that_does_not_go_is_killed_when_its_patience_is_over(witness: Witness) -> None:
    child = Observed(stubborn(witness, stop_s=0.1))
    async with Supervisor("root", children=[child.child()]) as tree:
        _, gone = await witness.wait_said()
    await gone.wait()
    (info,) = tree.which_children()
    assert info.last == Shutdown()


@pytest.mark.asyncio
async def test_a_child_without_time_to_shut_down_is_killed_at_once(witness: Witness) -> None:
    child = Observed(stubborn(witness, stop_s=600.0))
    async with Supervisor("root", children=[child.child(shutdown="brutal")]) as tree:
        _, gone = await witness.wait_said()
    await gone.wait()
    await child.ends.get()
    (info,) = tree.which_children()
    assert isinstance(info.last, Hung | Killed)


@pytest.mark.usefixtures("leaves_no_child")
@pytest.mark.asyncio
async def test_no_descriptor_and_no_process_is_left_after_many_deaths() -> None:
    open_before = descriptors()
    for _ in range(5):
        child = Observed(shell("exit 1"))
        async with Supervisor("root", children=[child.child(restart="temporary")]):
            assert await child.ends.get() == Exited(1)
    assert descriptors() == open_before


@pytest.mark.usefixtures("leaves_no_child")
@pytest.mark.asyncio
@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_at_any_moment_of_its_life_a_process_leaves_nothing(turns: int) -> None:
    open_before = descriptors()
    child = Observed(shell("exec sleep 600", stop_s=0.0, ready_when=asyncio.Event().wait))
    async with Supervisor("root", children=[]) as tree:
        entering = asyncio.ensure_future(tree.start_child(child.child(restart="temporary")))
        await child.starts.get()
        for _ in range(turns):
            await asyncio.sleep(0)
        entering.cancel()
        await asyncio.wait([entering])
    assert descriptors() == open_before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"argv": ()}, "needs a program to run"),
        ({"memory_max_bytes": 0}, "memory_max_bytes must be more than 0, not 0"),
        ({"timeout_s": -1.0}, "timeout_s must be more than 0, not -1.0"),
        ({"stop_s": -1.0}, "stop_s must be 0 or more seconds, not -1.0"),
        ({"ready_line": "up", "reports": True}, "can be ready in one way"),
    ],
)
def test_an_option_that_cannot_be_meant_so_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        build(**options)


def test_a_supervisor_gives_a_process_more_time_than_the_process_gives_the_program() -> None:
    assert process_child(Process("p", ("true",), stop_s=3.0)).shutdown == 5.0
