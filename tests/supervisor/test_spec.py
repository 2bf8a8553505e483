from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from regrow.supervisor import Backoff, ChildSpec, DuplicateChild, InvalidOption, Start, check_children


async def serve(start: Start) -> None:
    start.ready()


def test_the_defaults_are_those_of_otp() -> None:
    spec = ChildSpec(id="gateway", run=serve)
    assert (spec.restart, spec.shutdown) == ("permanent", 5.0)
    assert (spec.backoff, spec.start_timeout_s) == (Backoff(), 30.0)
    assert (spec.significant, spec.type) == (False, "worker")


def test_a_spec_cannot_be_changed() -> None:
    spec = ChildSpec(id="gateway", run=serve)
    with pytest.raises(FrozenInstanceError):
        spec.restart = "temporary"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue] - the test


@pytest.mark.parametrize("shutdown", [0, 2, 0.5, "brutal", "infinity"])
def test_a_shutdown_is_seconds_or_one_of_two_words(shutdown: Any) -> None:
    assert ChildSpec(id="gateway", run=serve, shutdown=shutdown).shutdown == shutdown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"id": ""}, "a child needs an id that is not empty"),
        ({"run": 7}, "child 'gateway': run must be a coroutine function, not 7"),
        ({"restart": "always"}, "restart must be permanent, transient or temporary, not 'always'"),
        ({"shutdown": "gently"}, "shutdown must be seconds, 'brutal' or 'infinity', not 'gently'"),
        ({"shutdown": -1.0}, "shutdown must be seconds, 'brutal' or 'infinity', not -1.0"),
        ({"shutdown": float("inf")}, "shutdown must be seconds, 'brutal' or 'infinity', not inf"),
        ({"shutdown": None}, "shutdown must be seconds, 'brutal' or 'infinity', not None"),
        ({"type": "boss"}, "type must be worker or supervisor, not 'boss'"),
        ({"significant": True}, "a significant child must be transient or temporary, not permanent"),
        ({"start_timeout_s": 0.0}, "start_timeout_s must be a positive number of seconds, not 0.0"),
        ({"start_timeout_s": float("inf")}, "start_timeout_s must be a positive number of seconds, not inf"),
    ],
)
def test_an_impossible_spec_is_refused_when_built(options: dict[str, Any], words: str) -> None:
    defaults: dict[str, Any] = {"id": "gateway", "run": serve}
    with pytest.raises(InvalidOption, match=words):
        ChildSpec(**(defaults | options))


def test_children_with_different_ids_may_live_together() -> None:
    check_children([])
    check_children([ChildSpec(id="a", run=serve), ChildSpec(id="b", run=serve)])


def test_two_children_of_one_name_are_refused() -> None:
    with pytest.raises(DuplicateChild) as caught:
        check_children([ChildSpec(id="a", run=serve), ChildSpec(id="b", run=serve), ChildSpec(id="b", run=serve)])
    assert caught.value.child == "b"


def test_a_significant_child_needs_a_supervisor_that_ends_with_it() -> None:
    spec = ChildSpec(id="a", run=serve, restart="transient", significant=True)
    check_children([spec], "any_significant")
    check_children([spec], "all_significant")
    with pytest.raises(InvalidOption, match="child 'a' is significant, and its supervisor's auto_shutdown is 'never'"):
        check_children([spec])


def test_a_rule_by_cause_may_stand_for_a_restart_type_and_be_significant() -> None:
    spec = ChildSpec(id="a", run=serve, restart=lambda cause: "transient", significant=True)
    assert callable(spec.restart)
