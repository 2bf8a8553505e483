"""What the server is told of a message that it shall deliver later (nats-server 2.12, ADR-51)."""

from datetime import UTC, datetime

from regrow.bus.subjects import unescape

LATEST_NS = 2**63 - 1
"""In the year 2262: the server takes a later time for one that is past."""
EVERY = "*"
"""Stands for all timers of an actor where some are removed."""
_SCHEDULE = "Nats-Schedule"
_TARGET = "Nats-Schedule-Target"
_SECOND_NS = 1_000_000_000


def check_timer(timer: str) -> str:
    """The name itself when it is one subject token, such as ``escape`` gives; ValueError when it is not."""
    if not timer or "".join(timer.split()) != timer:
        raise ValueError(f"the timer {timer!r} is not an escaped name")
    unescape(timer)
    return timer


def schedule(at_ns: int, target: str) -> dict[str, str]:
    """Headers of a message that goes to the target at that time, nanoseconds since 1970, or at once when it is past."""
    return {_SCHEDULE: f"@at {instant(at_ns)}", _TARGET: target}


def instant(at_ns: int) -> str:
    """The time in RFC 3339, to the nanosecond; what the server cannot represent becomes the nearest that it can."""
    seconds, fraction = divmod(min(max(at_ns, 0), LATEST_NS), _SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
