"""OTP's permanent_, transient_ and temporary_ normal, shutdown and abnormal cases."""

import pytest

from regrow.supervisor import Action, Backoff, Crashed, Exit, Exited, Hung, Killed, Normal, Restart, Shutdown, decide
from regrow.supervisor.decision import backoff_for, restart_type

CLEAN: tuple[Exit, ...] = (Normal(), Shutdown(), Exited(0))
ABNORMAL: tuple[Exit, ...] = (Crashed(ValueError()), Exited(1), Killed(9), Hung(5.0))


@pytest.mark.parametrize("cause", CLEAN + ABNORMAL)
def test_permanent_child_is_always_restarted(cause: Exit) -> None:
    assert decide("permanent", cause) == "restart"


@pytest.mark.parametrize("cause", CLEAN + ABNORMAL)
def test_temporary_child_is_never_restarted(cause: Exit) -> None:
    assert decide("temporary", cause) == "remove"


@pytest.mark.parametrize(
    ("cause", "action"), [(cause, "remove") for cause in CLEAN] + [(cause, "restart") for cause in ABNORMAL]
)
def test_transient_child_is_restarted_after_an_abnormal_end_alone(cause: Exit, action: Action) -> None:
    restart: Restart = "transient"
    assert decide(restart, cause) == action


def by_cause(cause: Exit) -> Restart:
    return "temporary" if isinstance(cause, Hung) else "permanent"


def test_a_rule_says_the_restart_type_by_the_cause() -> None:
    assert [restart_type(by_cause, cause) for cause in (Hung(1.0), Normal())] == ["temporary", "permanent"]
    assert [decide(by_cause, cause) for cause in (Hung(1.0), Normal())] == ["remove", "restart"]
    assert restart_type("transient", Hung(1.0)) == "transient"


def test_a_rule_says_the_backoff_by_the_cause() -> None:
    slow, fast = Backoff(first_s=5.0), Backoff(first_s=0.1)
    assert backoff_for(lambda cause: slow if isinstance(cause, Killed) else fast, Killed(9)) is slow
    assert backoff_for(fast, Killed(9)) is fast
