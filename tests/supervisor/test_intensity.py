import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.supervisor import Intensity, InvalidOption, admit
from regrow.supervisor.intensity import Window

# Quarters of a second are exact as floats, so that "exactly per_s ago" can be met.
seconds = st.integers(0, 400).map(lambda quarters: quarters / 4)
times = st.lists(seconds, max_size=40).map(sorted)
intensities = st.builds(Intensity, st.integers(0, 6), per_s=st.integers(1, 40).map(lambda quarters: quarters / 4))


def test_three_restarts_in_five_seconds_are_allowed_and_a_fourth_is_not() -> None:
    window: tuple[float, ...] = ()
    for now in (10.0, 11.0, 12.0):
        window = admit(window, now, Intensity()) or ()
    assert window == (10.0, 11.0, 12.0)
    assert admit(window, 13.0, Intensity()) is None


def test_a_restart_exactly_one_period_ago_still_counts() -> None:
    assert admit((10.0,), 15.0, Intensity(1, per_s=5.0)) is None
    assert admit((10.0,), 15.25, Intensity(1, per_s=5.0)) == (15.25,)


def test_a_limit_of_zero_admits_no_restart() -> None:
    assert admit((), 0.0, Intensity(0, per_s=1.0)) is None


@given(times, intensities)
def test_a_restart_is_admitted_iff_no_period_that_ends_with_it_holds_too_many(
    at: list[float], intensity: Intensity
) -> None:
    window: tuple[float, ...] = ()
    admitted: list[float] = []
    for now in at:
        recent = [earlier for earlier in admitted if now - earlier <= intensity.per_s]
        grown = admit(window, now, intensity)
        assert (grown is None) == (len(recent) + 1 > intensity.limit)
        if grown is not None:
            window = grown
            admitted.append(now)


@given(times, intensities)
def test_the_window_stays_sorted_and_no_longer_than_the_limit(at: list[float], intensity: Intensity) -> None:
    window: tuple[float, ...] = ()
    for now in at:
        window = admit(window, now, intensity) or window
        assert len(window) <= intensity.limit
        assert list(window) == sorted(window)


@given(times, intensities)
def test_a_window_that_is_kept_admits_what_the_pure_one_does(at: list[float], intensity: Intensity) -> None:
    window: tuple[float, ...] = ()
    kept = Window(intensity)
    for now in at:
        grown = admit(window, now, intensity)
        assert kept.admit(now) == (grown is not None)
        window = grown or window


@pytest.mark.parametrize(
    ("limit", "per_s", "words"),
    [
        (-1, 5.0, "the limit of restarts must be 0 or more, not -1"),
        (3, 0.0, "per_s must be a positive number of seconds, not 0.0"),
        (3, float("inf"), "per_s must be a positive number of seconds, not inf"),
        (3, float("nan"), "per_s must be a positive number of seconds, not nan"),
    ],
)
def test_an_impossible_intensity_is_refused_when_built(limit: int, per_s: float, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        Intensity(limit, per_s=per_s)
