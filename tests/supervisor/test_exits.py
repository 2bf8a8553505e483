import signal

import pytest

from regrow.supervisor import Crashed, Exit, Exited, Hung, Killed, Normal, Shutdown, describe
from regrow.supervisor.exits import (
    NodeLost,
    NoProcess,
    OutOfMemory,
    Poison,
    Preempted,
    TimedOut,
    error_of,
    is_clean,
)

UNNAMED_SIGNAL = signal.SIGRTMIN + 1


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (Normal(), "finished"),
        (Shutdown(), "stopped when asked"),
        (Crashed(ValueError("no funds")), "crashed with ValueError: no funds"),
        (Crashed(KeyboardInterrupt()), "crashed with KeyboardInterrupt"),
        (Exited(3), "exited with code 3"),
        (Killed(signal.SIGKILL), "was killed by SIGKILL"),
        (Killed(UNNAMED_SIGNAL), f"was killed by signal {UNNAMED_SIGNAL}"),
        (Hung(2.5), "did not stop within 2.5 s and was abandoned"),
        (OutOfMemory(1000, 1200), "used more memory than its limit of 1000 bytes: 1200"),
        (OutOfMemory(1000, None), "used more memory than its limit of 1000 bytes"),
        (TimedOut(2.5), "did not finish within 2.5 s and was ended"),
        (Preempted(30.0), "was preempted with 30 s of notice"),
        (NodeLost("eu-1"), "was lost with its node eu-1"),
        (Poison(5), "was set aside after 5 deaths in a row"),
        (NoProcess(), "does not exist"),
    ],
)
def test_every_exit_is_described_in_one_clause(cause: Exit, words: str) -> None:
    assert describe(cause) == words


@pytest.mark.parametrize("cause", [Normal(), Shutdown(), Exited(0)])
def test_normal_shutdown_and_code_zero_are_clean(cause: Exit) -> None:
    assert is_clean(cause)


@pytest.mark.parametrize(
    "cause",
    [
        Crashed(ValueError()),
        Exited(1),
        Exited(-1),
        Killed(9),
        Hung(5.0),
        OutOfMemory(1000, None),
        TimedOut(2.5),
        Preempted(30.0),
        NodeLost("eu-1"),
        Poison(5),
        NoProcess(),
    ],
)
def test_every_other_exit_is_not_clean(cause: Exit) -> None:
    assert not is_clean(cause)


def test_only_a_crash_has_an_error() -> None:
    error = ValueError("no funds")
    assert error_of(Crashed(error)) is error
    assert error_of(Killed(9)) is None


def test_exits_are_values() -> None:
    error = ValueError()
    assert Normal() == Normal()
    assert Crashed(error) == Crashed(error)
    assert Crashed(error) != Crashed(ValueError())
    assert len({Exited(1), Exited(1), Exited(2)}) == 2
