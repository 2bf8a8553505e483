from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.supervisor import Backoff, InvalidOption


def backoff_of(first_s: float, factor: float, more_s: float) -> Backoff:
    return Backoff(first_s=first_s, factor=factor, max_s=first_s + more_s)


backoffs = st.builds(backoff_of, st.floats(0, 10), st.floats(1, 10), st.floats(0, 100))
attempts = st.integers(0, 5000)
draws = st.floats(0, 1, exclude_max=True)


def test_the_ceiling_doubles_from_fifty_milliseconds_to_ten_seconds() -> None:
    backoff = Backoff()
    assert [backoff.delay_s(attempt, 0.5) for attempt in (0, 1, 2, 7, 8, 100)] == [
        0.025,
        0.05,
        0.1,
        3.2,
        5.0,
        5.0,
    ]


def test_a_first_delay_of_zero_restarts_at_once_however_often() -> None:
    assert [Backoff(first_s=0).delay_s(attempt, 0.9) for attempt in (0, 10, 10_000)] == [0, 0, 0]


def test_a_power_too_large_for_a_float_waits_the_maximum() -> None:
    assert Backoff(max_s=8.0).delay_s(10_000, 0.5) == 4.0


@given(backoffs, attempts, draws)
def test_a_delay_is_never_negative_nor_above_the_maximum(backoff: Backoff, attempt: int, draw: float) -> None:
    assert 0 <= backoff.delay_s(attempt, draw) <= backoff.max_s


@given(backoffs, attempts, draws)
def test_for_the_same_draw_no_attempt_waits_less_than_the_one_before(
    backoff: Backoff, attempt: int, draw: float
) -> None:
    assert backoff.delay_s(attempt, draw) <= backoff.delay_s(attempt + 1, draw)


@given(backoffs, attempts, draws)
def test_the_jitter_is_full_the_delay_is_the_drawn_part_of_the_ceiling(
    backoff: Backoff, attempt: int, draw: float
) -> None:
    nearly_one = 1 - 2**-53
    assert backoff.delay_s(attempt, 0.0) == 0
    assert backoff.delay_s(attempt, draw) == pytest.approx(draw * backoff.delay_s(attempt, nearly_one))


@given(backoffs, st.floats(0, 1000))
def test_a_child_that_ran_for_the_longest_delay_begins_again(backoff: Backoff, ran_s: float) -> None:
    assert backoff.is_over(ran_s) == (ran_s >= backoff.max_s)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"first_s": -0.1}, "backoff needs 0 <= first_s <= max_s, in seconds, not -0.1 and 10.0"),
        ({"first_s": 11.0}, "backoff needs 0 <= first_s <= max_s, in seconds, not 11.0 and 10.0"),
        ({"max_s": float("inf")}, "backoff needs 0 <= first_s <= max_s, in seconds, not 0.05 and inf"),
        ({"factor": 0.5}, "a backoff's factor must be 1 or more, not 0.5"),
        ({"factor": float("nan")}, "a backoff's factor must be 1 or more, not nan"),
    ],
)
def test_an_impossible_backoff_is_refused_when_built(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        Backoff(**options)
