"""When something is due by a cron expression in a time zone: pure, from one instant to the next.

The expression has cron's five fields, or six with seconds first. Summer time is cron's: what names its minute and hour runs once
a day, right after the gap where clocks skip it, and only the first time where they show it twice; what has a ``*`` in minute or
hour, or names seconds, goes by elapsed time: nothing in the gap, twice in the hour that comes twice.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from regrow.actors.errors import DefinitionError

PASSED_MAX = 1_000
"""Due times that are looked at together; older ones are forgotten."""
_SPAN_MS = 60_000


def check_due(cron: str, tz: str) -> None:
    """Raises ``DefinitionError`` with one sentence: no cron parser here, no such time zone, no such expression, never due."""
    try:
        import cronsim  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise DefinitionError("schedules need a cron parser: pip install 'regrow[schedules]'") from None
    _zone(tz)
    if next_due_ms(cron, tz, 0) is None:
        raise DefinitionError(f"the schedule {cron!r} is never due: there is no such day")


def next_due_ms(cron: str, tz: str, after_ms: int) -> int | None:
    """The first due time after an instant, both in milliseconds since 1970; None when there is none within 50 years."""
    return next(_due_times(cron, tz, after_ms), None)


def passed_ms(cron: str, tz: str, from_ms: int, to_ms: int) -> tuple[int, ...]:
    """The due times from one instant to another, both included: the last ``PASSED_MAX`` of them."""
    span_ms = _SPAN_MS
    while True:
        begin_ms = max(from_ms, to_ms - span_ms)
        found: deque[int] = deque(maxlen=PASSED_MAX)
        for due_ms in _due_times(cron, tz, begin_ms - 1):
            if due_ms > to_ms:
                break
            found.append(due_ms)
        if begin_ms == from_ms or len(found) == PASSED_MAX:
            return tuple(found)
        span_ms *= 8


def _due_times(cron: str, tz: str, after_ms: int) -> Iterator[int]:
    from cronsim import CronSim, CronSimError

    zone = _zone(tz)
    try:
        times = CronSim(cron, datetime.fromtimestamp(after_ms // 1000, zone))
    except CronSimError as error:
        raise DefinitionError(
            f"the schedule {cron!r} is no cron expression ({error}): write minute hour day month weekday, such as '0 2 * * *'"
        ) from None
    last_ms = after_ms
    for time in times:
        due_ms = int(time.timestamp()) * 1000
        if due_ms > last_ms:  # cronsim may begin with one that was due in the first of two equal hours
            last_ms = due_ms
            yield due_ms


def _zone(tz: str) -> tzinfo:
    if tz == "UTC":
        return UTC
    try:
        return ZoneInfo(tz)
    except (OSError, ValueError, LookupError):
        raise DefinitionError(
            f"there is no time zone {tz!r}: write a name such as 'Europe/Berlin', and install regrow[schedules] where the "
            "system has no time zones of its own"
        ) from None
