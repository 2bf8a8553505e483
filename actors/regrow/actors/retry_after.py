"""How long a server asks to wait, read from the headers of its answer. Pure: the time is passed in."""

import email.utils
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_RESET = re.compile(r"(x|anthropic)-ratelimit-(?:reset-.+|.+-reset)")


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds until another request has a chance; None where no header says so, or none can be read.

    ``retry-after-ms`` counts before ``retry-after`` (seconds or a date, RFC 9110, 10.2.3), and both before the resets of the
    rate limits that have nothing left: OpenAI tells theirs as a duration, Anthropic as an instant. ``now_s``: seconds since 1970.
    """
    given = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    if (ms := number(given.get("retry-after-ms", ""))) is not None:
        return ms / 1000
    if after := given.get("retry-after"):
        seconds = number(after)
        return seconds if seconds is not None else _until_s(date_s(after), now_s)
    return max((each for each in _resets_s(given, now_s) if each is not None), default=None)


def number(text: str) -> float | None:
    """A decimal number of 0 or more."""
    return float(text) if _NUMBER.fullmatch(text) else None


def duration_s(text: str) -> float | None:
    """Seconds of a duration such as ``1m30s``, ``20ms`` or ``7.66s``; a bare number is seconds."""
    if (seconds := number(text)) is not None:
        return seconds
    parts = _PART.findall(text)
    if not parts or "".join(amount + unit for amount, unit in parts) != text:
        return None
    return sum(float(amount) * _UNITS_S[unit] for amount, unit in parts)


def instant_s(text: str) -> float | None:
    """An instant of RFC 3339 as seconds since 1970; without an offset it is taken for UTC."""
    try:
        return _seconds(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def date_s(text: str) -> float | None:
    """A date of HTTP as seconds since 1970."""
    try:
        return _seconds(email.utils.parsedate_to_datetime(text))
    except (ValueError, OverflowError):
        return None


def _resets_s(given: Mapping[str, str], now_s: float) -> Iterator[float | None]:
    """Of each rate limit that is used up, or of which nothing else is known than when it is full again."""
    for name, value in given.items():
        found = _RESET.fullmatch(name)
        if found is not None and number(given.get(name.replace("reset", "remaining"), "0")) == 0:
            yield duration_s(value) if found[1] == "x" else _until_s(instant_s(value), now_s)


def _until_s(moment_s: float | None, now_s: float) -> float | None:
    return max(0.0, moment_s - now_s) if moment_s is not None else None


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
