"""When a turn is tried again, and what is said of one that is not."""

import pytest

from regrow.actors import DefinitionError, Policy, Refused, StepFailed, WouldDeadlock
from regrow.actors.policy import defect, refusal, tries_again
from regrow.bus import PayloadTooLarge


@pytest.mark.parametrize(
    ("policy", "error", "number", "again"),
    [
        (Policy(), ValueError("x"), 1, True),
        (Policy(), ValueError("x"), 2, True),
        (Policy(), ValueError("x"), 3, False),
        (Policy(attempts_max=1), ValueError("x"), 1, False),
        (Policy(restart="transient"), ValueError("x"), 1, True),
        (Policy(restart="temporary"), ValueError("x"), 1, False),
        (Policy(), DefinitionError("x"), 1, False),
        (Policy(), WouldDeadlock("b", ("a",)), 1, False),
        (Policy(), PayloadTooLarge(2, 1), 1, False),
        (Policy(), StepFailed("network", "ConnectionError", "x"), 1, True),
        (Policy(), StepFailed("throttled", "X", "x"), 1, True),
        (Policy(), StepFailed("quota", "X", "x"), 1, False),
        (Policy(), StepFailed("rejected", "X", "x"), 1, False),
        (
            Policy(),
            ExceptionGroup("g", [ValueError("x"), ExceptionGroup("h", [StepFailed("quota", "X", "x")])]),
            1,
            False,
        ),
        (Policy(), ExceptionGroup("g", [ValueError("x")]), 1, True),
    ],
)
def test_a_turn_is_tried_again_unless_that_is_certain_to_fail(
    policy: Policy, error: Exception, number: int, again: bool
) -> None:
    assert tries_again(policy, error, number) is again


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("x"), "defect", "ValueError: x"),
        (PayloadTooLarge(2, 1), "too_large", f"PayloadTooLarge: {PayloadTooLarge(2, 1)}"),
        (WouldDeadlock("b", ("a",)), "deadlock", f"WouldDeadlock: {WouldDeadlock('b', ('a',))}"),
        (
            ExceptionGroup("g", [ValueError("x"), ExceptionGroup("h", [KeyError("y"), ValueError("x")])]),
            "defect",
            "ValueError: x; KeyError: 'y'",
        ),
    ],
)
def test_a_failure_says_what_its_errors_say(error: Exception, kind: str, message: str) -> None:
    said = defect(error)
    assert (said.kind, said.message) == (kind, message)


def test_a_refusal_carries_its_data_and_only_json() -> None:
    said = refusal(Refused("no funds", left=3)).failure
    assert said is not None
    assert (said.kind, said.code, said.message, said.data) == ("refused", 409, "no funds", {"left": 3})
    with pytest.raises(TypeError):
        refusal(Refused("no", what=object()))
