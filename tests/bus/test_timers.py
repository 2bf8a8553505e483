"""What the server is told of a time."""

import pytest

from regrow.bus.timers import LATEST_NS, check_timer, instant, schedule


@pytest.mark.parametrize(
    ("at_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-5, "1970-01-01T00:00:00.000000000Z"),
        (1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z"),
        (1_700_000_000_999_999_999, "2023-11-14T22:13:20.999999999Z"),
        (LATEST_NS, "2262-04-11T23:47:16.854775807Z"),
        (LATEST_NS + 1, "2262-04-11T23:47:16.854775807Z"),
    ],
)
def test_a_time_is_written_to_the_nanosecond_within_what_the_server_knows(at_ns: int, text: str) -> None:
    assert instant(at_ns) == text


def test_a_schedule_names_its_time_and_its_target() -> None:
    assert schedule(0, "rg.a.act.k.x") == {
        "Nats-Schedule": "@at 1970-01-01T00:00:00.000000000Z",
        "Nats-Schedule-Target": "rg.a.act.k.x",
    }


@pytest.mark.parametrize("timer", ["17-0", "a_b", "caf=C3=A9"])
def test_an_escaped_name_is_a_timers(timer: str) -> None:
    assert check_timer(timer) == timer


@pytest.mark.parametrize("timer", ["", "a.b", "*", ">", "a b", "\n", "=zz", "é"])
def test_any_other_name_is_refused(timer: str) -> None:
    with pytest.raises(ValueError):
        check_timer(timer)
