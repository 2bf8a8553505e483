"""OTP's permanent_, transient_ and temporary_ normal, shutdown and abnormal cases."""

import pytest

from regrow.supervisor import Action, Crashed, Exit, Exited, Hung, Killed, Normal, Restart, Shutdown, decide

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
