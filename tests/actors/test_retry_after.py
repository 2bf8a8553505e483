"""How long a server asks to wait, in all the ways in which servers say so."""

import pytest

from regrow.actors.retry_after import date_s, duration_s, instant_s, number, retry_after_s

NOW_S = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"content-type": "text/html"}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 -0000"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:12:20 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "7", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 7.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, 90.0),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "1m30s"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "3",
                "x-ratelimit-reset-requests": "1m",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "20ms",
            },
            0.02,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360.0,
        ),
        ({"x-ratelimit-reset-tokens": "2s"}, 2.0),
        ({"x-ratelimit-reset-tokens": "some time"}, None),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:13:50Z",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2023-11-14T23:00:00Z",
            },
            30.0,
        ),
        ({"anthropic-ratelimit-tokens-reset": "2023-11-14T22:13:10Z"}, 0.0),
        ({"anthropic-ratelimit-tokens-reset": "tomorrow"}, None),
    ],
)
def test_headers_say_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW_S) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1m30s", 90.0),
        ("20ms", 0.02),
        ("7.66s", 7.66),
        ("1h2m3.5s", 3_723.5),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("9ns", 9e-9),
        ("12", 12.0),
        ("", None),
        ("1 m", None),
        ("1m30", None),
        ("m", None),
        ("1w", None),
        ("-1s", None),
        ("1e9s", None),
    ],
)
def test_durations_are_those_of_openai(text: str, seconds: float | None) -> None:
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-11-14T22:13:20Z", NOW_S),
        ("2023-11-14T23:13:20+01:00", NOW_S),
        ("2023-11-14T22:13:20", NOW_S),
        ("2023-11-14T22:13:20.250Z", NOW_S + 0.25),
        ("2023-14-11T22:13:20Z", None),
        ("", None),
    ],
)
def test_instants_are_those_of_rfc_3339(text: str, seconds: float | None) -> None:
    assert instant_s(text) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "Tue, 14 Nov 20230 22:13:20 GMT", "Tue, 40 Nov 2023 22:13:20 GMT"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert date_s(text) is None


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7.0), ("7.5", 7.5), ("7.", None), (".5", None), ("\u0667", None), ("1e3", None)]
)
def test_numbers_are_plain(text: str, value: float | None) -> None:
    assert number(text) == value
