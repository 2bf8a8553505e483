"""Restart intensity per actor, and when the failing ones are too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.actors import AskFailed, KindFailing, PerKey, StepFailed
from regrow.actors.per_key import FAILING_MIN, KEYS_MAX, Failures, counts, verdict
from regrow.bus import MailboxFull, RequestTimeout, StoreFull, Undecodable
from regrow.models import ModelThrottled
from regrow.supervisor import InvalidOption


class Slower(Exception):
    retry_after_s = 2.0


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (ValueError("x"), True),
        (StepFailed("defect", "ValueError", "x"), True),
        (StepFailed("network", "ConnectionError", "x"), True),
        (StepFailed("throttled", "ModelThrottled", "x"), False),
        (ModelThrottled("slower", 1.0), False),
        (Slower(), False),
        (AskFailed("busy", 429, "x"), False),
        (AskFailed("store", 503, "x"), False),
        (AskFailed("defect", 500, "x"), True),
        (MailboxFull("x"), False),
        (StoreFull("x"), False),
        (RequestTimeout("x"), False),
        (Undecodable("x", "y"), True),
        (ExceptionGroup("x", [ModelThrottled("slower", None), ExceptionGroup("y", [Slower()])]), False),
        (ExceptionGroup("x", [ModelThrottled("slower", None), ExceptionGroup("y", [ValueError("x")])]), True),
    ],
)
def test_what_ends_by_waiting_does_not_count_as_failing(error: BaseException, counted: bool) -> None:
    assert counts(error) is counted


@pytest.mark.parametrize(
    ("failing", "of", "ratio", "too_many"),
    [
        (4, 2_000, 0.5, False),
        (1, 1, 0.5, False),
        (FAILING_MIN - 1, FAILING_MIN - 1, 0.5, False),
        (FAILING_MIN, FAILING_MIN, 0.5, True),
        (1_000, 2_000, 0.5, False),
        (1_001, 2_000, 0.5, True),
        (1_200, 2_000, 0.5, True),
        (2_000, 2_000, 1.0, False),
    ],
)
def test_a_kind_is_at_fault_when_more_than_its_share_of_those_at_work_is_failing(
    failing: int, of: int, ratio: float, too_many: bool
) -> None:
    assert verdict(failing, of, ratio) is too_many


def test_one_restart_more_than_allowed_within_the_window_makes_an_actor_failing() -> None:
    failures = Failures[str](PerKey(3, per_s=5.0), calm_s=15.0)
    assert [failures.add("a", now) for now in (0.0, 1.0, 2.0, 3.0, 4.0)] == [0, 0, 0, 1, 2]
    assert "a" in failures
    assert failures.failing(4.0) == 1


def test_restarts_with_time_between_them_never_make_an_actor_failing() -> None:
    failures = Failures[str](PerKey(3, per_s=5.0), calm_s=15.0)
    assert not any(failures.add("a", now * 2.0) for now in range(100))


def test_restarts_of_others_do_not_count_for_an_actor() -> None:
    failures = Failures[int](PerKey(3, per_s=5.0), calm_s=15.0)
    assert not any(failures.add(key, 0.0) for key in range(1_000) for _ in range(3))
    assert failures.failing(0.0) == 0


def test_an_actor_whose_turn_was_given_up_is_failing_at_once() -> None:
    failures = Failures[str](PerKey(3, per_s=5.0), calm_s=15.0)
    assert failures.add("a", 0.0, given_up=True) == 1


def test_an_actor_that_did_well_is_failing_no_more_and_begins_anew() -> None:
    failures = Failures[str](PerKey(1, per_s=5.0), calm_s=15.0)
    assert [failures.add("a", 0.0), failures.add("a", 0.0)] == [0, 1]
    failures.well("a")
    assert failures.failing(0.0) == 0
    assert failures.add("a", 0.0) == 0


def test_an_actor_that_is_quiet_for_long_enough_is_failing_no_more() -> None:
    failures = Failures[str](PerKey(0, per_s=5.0), calm_s=15.0)
    failures.add("a", 0.0)
    assert (failures.failing(15.0), failures.failing(15.1)) == (1, 0)
    assert len(failures) == 0


def test_all_is_forgotten_when_the_kind_begins_anew() -> None:
    failures = Failures[str](PerKey(1, per_s=5.0), calm_s=15.0)
    failures.add("a", 0.0)
    failures.add("b", 0.0, given_up=True)
    failures.clear()
    assert len(failures) == 0


def test_failures_of_any_number_of_actors_take_bounded_memory() -> None:
    failures = Failures[int](PerKey(3, per_s=5.0), calm_s=15.0)
    for key in range(KEYS_MAX + 10):
        failures.add(key, 0.0, given_up=key % 2 == 0)
    assert len(failures) == KEYS_MAX


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 3.0), st.sampled_from(["fail", "give up", "well"]))))
def test_whoever_failed_within_the_time_is_kept_in_mind_and_nobody_else(
    happened: list[tuple[int, float, str]],
) -> None:
    failures, now, last = Failures[int](PerKey(2, per_s=4.0), calm_s=6.0), 0.0, dict[int, float]()
    for key, after, what in happened:
        now += after
        if what == "well":
            failures.well(key)
            last.pop(key, None)
        else:
            failures.add(key, now, given_up=what == "give up")
            last[key] = now
        failures.failing(now)
        assert len(failures) == sum(now - at <= 6.0 for at in last.values())


def test_an_intensity_per_key_is_checked_like_any_other() -> None:
    with pytest.raises(InvalidOption):
        PerKey(-1)
    with pytest.raises(InvalidOption):
        PerKey(3, per_s=0.0)


def test_a_failing_kind_says_how_many_of_how_many() -> None:
    error = KindFailing("researcher", 1_200, 2_000)
    assert (error.kind, error.failing, error.of) == ("researcher", 1_200, 2_000)
    assert "1200 of 2000 actors of kind researcher" in str(error)
