import signal

import pytest

from regrow.supervisor import Crashed, Exit, Exited, Hung, Killed, Normal, Shutdown, describe
from regrow.supervisor.exits import error_of, is_clean

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
    ],
)
def test_every_exit_is_described_in_one_clause(cause: Exit, words: str) -> None:
    assert describe(cause) == words


@pytest.mark.parametrize("cause", [Normal(), Shutdown(), Exited(0)])
def test_normal_shutdown_and_code_zero_are_clean(cause: Exit) -> None:
    assert is_clean(cause)


@pytest.mark.parametrize("cause", [Crashed(ValueError()), Exited(1), Exited(-1), Killed(9), Hung(5.0)])
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
