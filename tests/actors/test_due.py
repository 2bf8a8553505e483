"""When a cron expression is due: leap days, and the hours that clocks skip or show twice."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.actors import DefinitionError
from regrow.actors.due import PASSED_MAX, check_due, next_due_ms, passed_ms

BERLIN = "Europe/Berlin"
ZONES = ["UTC", BERLIN, "America/New_York", "Australia/Sydney", "Asia/Kathmandu", "Africa/Cairo", "America/Santiago"]
ODD_ZONES = ["Australia/Lord_Howe", "Pacific/Apia"]
"""Where clocks move by half an hour, or a day was left out."""
CRONS = [
    "30 2 * * *",
    "0,30 2 * * *",
    "0 0 * * *",
    "*/20 * * * *",
    "15 */3 * * *",
    "0 9 * * MON-FRI",
    "59 23 L * *",
    "0 0 29 2 *",
    "* 1-3 * * *",
    "0 12 1 1,7 *",
    "30 0 * * SUN#1",
    "15 30 2 * * *",
]
INSTANTS = st.datetimes(datetime(2009, 1, 1), datetime(2039, 1, 1), timezones=st.just(UTC)).map(
    lambda instant: int(instant.timestamp() * 1000)
)


def ms(time: datetime) -> int:
    return int(time.timestamp()) * 1000


def due(cron: str, tz: str, after: datetime, count: int) -> list[str]:
    """The next due times as clocks there show them."""
    found: list[str] = []
    at_ms = ms(after)
    for _ in range(count):
        at_ms = next_due_ms(cron, tz, at_ms) or 0
        found.append(datetime.fromtimestamp(at_ms / 1000, ZoneInfo(tz)).strftime("%m-%d %H:%M %Z"))
    return found


def berlin(*given: int, fold: int = 0) -> datetime:
    year, month, day, hour, minute = given
    return datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(BERLIN), fold=fold)


def test_a_time_of_day_that_clocks_skip_is_due_right_after_the_gap() -> None:
    day = berlin(2026, 3, 28, 12, 0)
    assert due("30 2 * * *", BERLIN, day, 2) == ["03-29 03:00 CEST", "03-30 02:30 CEST"]
    assert due("0,30 2 * * *", BERLIN, day, 2) == ["03-29 03:00 CEST", "03-30 02:00 CEST"], "once, not twice"


def test_a_time_of_day_that_clocks_show_twice_is_due_the_first_time() -> None:
    day = berlin(2026, 10, 24, 12, 0)
    assert due("30 2 * * *", BERLIN, day, 2) == ["10-25 02:30 CEST", "10-26 02:30 CET"]


@pytest.mark.parametrize("minute", [0, 29, 30, 31, 59])
def test_in_the_second_of_two_equal_hours_it_is_not_due_again(minute: int) -> None:
    assert due("30 2 * * *", BERLIN, berlin(2026, 10, 25, 2, minute, fold=1), 1) == ["10-26 02:30 CET"]


def test_what_is_due_every_so_often_goes_by_elapsed_time() -> None:
    assert due("*/30 * * * *", BERLIN, berlin(2026, 3, 29, 1, 0), 2) == ["03-29 01:30 CET", "03-29 03:00 CEST"]
    assert due("*/30 * * * *", BERLIN, berlin(2026, 10, 25, 1, 30), 5) == [
        "10-25 02:00 CEST",
        "10-25 02:30 CEST",
        "10-25 02:00 CET",
        "10-25 02:30 CET",
        "10-25 03:00 CET",
    ]


def test_an_expression_with_seconds_is_due_twice_and_in_the_gap_not_at_all() -> None:
    assert due("0 30 2 * * *", BERLIN, berlin(2026, 10, 25, 1, 0), 2) == ["10-25 02:30 CEST", "10-25 02:30 CET"]
    assert due("0 30 2 * * *", BERLIN, berlin(2026, 3, 28, 12, 0), 1) == ["03-30 02:30 CEST"]


def test_the_29th_of_february_comes_every_four_years_but_not_in_2100() -> None:
    after = ms(datetime(2096, 1, 1, tzinfo=UTC))
    first = next_due_ms("0 0 29 2 *", "UTC", after) or 0
    second = next_due_ms("0 0 29 2 *", "UTC", first) or 0
    assert [datetime.fromtimestamp(each / 1000, UTC).year for each in (first, second)] == [2096, 2104]


def test_what_never_comes_is_due_never() -> None:
    assert next_due_ms("0 0 */31 2 MON#5", "UTC", 0) is None, "the first of a month is no fifth Monday"
    assert passed_ms("0 0 */31 2 MON#5", "UTC", 0, 60_000) == ()
    with pytest.raises(DefinitionError, match="is never due: there is no such day"):
        check_due("0 0 */31 2 MON#5", "UTC")


@given(st.sampled_from(CRONS), st.sampled_from(ZONES + ODD_ZONES), INSTANTS)
@settings(deadline=None)
def test_the_next_due_time_is_later_and_the_same_from_wherever_one_looks(cron: str, tz: str, after_ms: int) -> None:
    first = next_due_ms(cron, tz, after_ms)
    assert first is not None
    assert first > after_ms
    between = (after_ms + first) // 2
    assert next_due_ms(cron, tz, between) == first
    assert next_due_ms(cron, tz, first - 1) == first


@given(
    st.sampled_from(["*/20 * * * *", "* 1-3 * * *", "15 */3 * * *", "15 30 2 * * *"]), st.sampled_from(ZONES), INSTANTS
)
@settings(deadline=None)
def test_what_is_due_by_elapsed_time_is_every_second_whose_clock_fits(cron: str, tz: str, after_ms: int) -> None:
    due_ms = next_due_ms(cron, tz, after_ms) or 0
    minutes = range((after_ms // 60_000 + 1) * 60, due_ms // 1000 + 1, 60)
    if cron.count(" ") == 5:
        minutes = range((after_ms // 60_000) * 60 + 15, due_ms // 1000 + 1, 60)

    def fits(second: int) -> bool:
        clock = datetime.fromtimestamp(second, ZoneInfo(tz))
        match cron:
            case "*/20 * * * *":
                return clock.minute % 20 == 0
            case "* 1-3 * * *":
                return clock.hour in (1, 2, 3)
            case "15 */3 * * *":
                return clock.hour % 3 == 0 and clock.minute == 15
            case _:
                return (clock.hour, clock.minute) == (2, 30)

    fitting = [second for second in minutes if second * 1000 > after_ms and fits(second)]
    assert fitting[:1] == [due_ms // 1000]


@given(st.sampled_from(["30 2 * * *", "0 0 * * *", "30 1 * * *"]), st.sampled_from(ZONES), INSTANTS)
@settings(deadline=None)
def test_a_time_of_day_is_due_once_on_every_date(cron: str, tz: str, after_ms: int) -> None:
    times = passed_ms(cron, tz, after_ms, after_ms + 40 * 86_400_000)
    dates = [datetime.fromtimestamp(each / 1000, ZoneInfo(tz)).date() for each in times]
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(dates))
    assert len(times) in (39, 40, 41)


@given(st.sampled_from(CRONS), st.sampled_from(ZONES), INSTANTS, st.integers(0, 3 * 86_400_000))
@settings(deadline=None, max_examples=50)
def test_those_that_passed_are_the_last_of_all_from_one_to_the_next(
    cron: str, tz: str, from_ms: int, span: int
) -> None:
    expected: list[int] = []
    at_ms = from_ms - 1
    while (at_ms := next_due_ms(cron, tz, at_ms) or 0) <= from_ms + span:
        expected.append(at_ms)
    assert passed_ms(cron, tz, from_ms, from_ms + span) == tuple(expected[-PASSED_MAX:])


def test_of_a_year_of_seconds_only_the_last_thousand_are_looked_at() -> None:
    to = datetime(2026, 6, 1, tzinfo=UTC)
    found = passed_ms("* * * * * *", BERLIN, ms(to - timedelta(days=365)), ms(to))
    assert found == tuple(range(ms(to) - 999_000, ms(to) + 1, 1000))
