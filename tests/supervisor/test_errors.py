import pytest

from regrow.supervisor import (
    AlreadyRunning,
    Crashed,
    DuplicateChild,
    InvalidOption,
    NotRunning,
    RestartIntensityReached,
    StartFailed,
    StartTimedOut,
    SupervisorError,
)
from regrow.supervisor.errors import Died
from regrow.supervisor.exits import Killed

CAUSE = Crashed(ValueError("bad port"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DuplicateChild("gateway"), "two children are called 'gateway'; an id names one child of its supervisor"),
        (AlreadyRunning("root"), "supervisor 'root' is already running"),
        (NotRunning("root"), "supervisor 'root' has not been started"),
        (StartTimedOut("gateway", 2.5), "child 'gateway' was not ready within 2.5 s"),
        (StartFailed("gateway", CAUSE), "child 'gateway' did not start: it crashed with ValueError: bad port"),
        (Died(Killed(9)), "it was killed by SIGKILL"),
        (
            RestartIntensityReached("root", "gateway", CAUSE),
            "supervisor 'root' gave up: too many restarts, and child 'gateway' crashed with ValueError: bad port",
        ),
    ],
)
def test_every_error_says_who_and_why_under_one_root(error: Exception, words: str) -> None:
    assert isinstance(error, SupervisorError)
    assert str(error) == words


def test_errors_carry_what_they_say_as_fields() -> None:
    gave_up = RestartIntensityReached("root", "gateway", CAUSE)
    assert (gave_up.supervisor, gave_up.child, gave_up.exit) == ("root", "gateway", CAUSE)
    failed = StartFailed("gateway", CAUSE)
    assert (failed.child, failed.cause) == ("gateway", CAUSE)
    assert Died(Killed(9)).cause == Killed(9)
    late = StartTimedOut("gateway", 2.5)
    assert (late.child, late.timeout_s) == ("gateway", 2.5)


def test_errors_are_caught_as_the_builtin_they_are() -> None:
    assert issubclass(StartTimedOut, TimeoutError)
    assert issubclass(InvalidOption, ValueError)
    assert issubclass(DuplicateChild, InvalidOption)
