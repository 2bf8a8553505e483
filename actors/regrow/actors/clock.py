"""The clock, chance and sleep as a handler sees them: drawn once, recorded, and the same on every replay.

Outside of a step's record nothing is kept. A sleep of more than a second says in the log when it ends, before it begins, so that
after a crash only the rest of it is slept; while its turn is suspended nobody sleeps, and a message says when it is over.
"""

import asyncio
import math
import random
import time
import uuid
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta

from regrow.actors.image import PendingSleep
from regrow.actors.step import step
from regrow.actors.waits import Waits

RECORDED_FROM_S = 1.0
"""A shorter sleep is slept whole once more after a crash."""
LONGEST_S = 86_400.0
"""After this time a sleeper looks at the wall clock again."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_NOBODYS = Context()
"""Of alarms: a cancelled one stays with the event loop until many are, and would keep the handler that it belonged to."""


async def now() -> datetime:
    """The time, in UTC, to the microsecond."""
    moment: datetime = await step("now", None, _now, datetime, pure=True)
    return moment


async def draw() -> float:
    """A random number from 0.0 up to, not including, 1.0."""
    drawn: float = await step("random", None, _draw, float, pure=True)
    return drawn


async def new_uuid() -> uuid.UUID:
    """A random UUID (version 4)."""
    made: uuid.UUID = await step("uuid", None, _uuid, uuid.UUID, pure=True)
    return made


def seconds_of(duration: float | timedelta) -> float:
    """Seconds, 0 or more. Raises ValueError for what is no length of time."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not math.isfinite(seconds):
        raise ValueError(f"{seconds} is no time to sleep: give seconds or a timedelta")
    return max(seconds, 0.0)


async def sleep_on(pending: PendingSleep, waits: Waits, now_ms: Callable[[], int]) -> None:
    """Returns when a recorded sleep ends by the wall clock."""
    loop, due_ms = asyncio.get_running_loop(), pending.slept.due_ms
    while (left_ms := due_ms - now_ms()) > 0:
        over: asyncio.Future[None] = loop.create_future()
        alarm = loop.call_later(min(left_ms / 1000, LONGEST_S), _end, over, context=_NOBODYS)
        try:
            with waits.waiting(over, pending.timer, due_ms):
                await over
        finally:
            alarm.cancel()


def _end(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


async def _now() -> datetime:
    return _EPOCH + timedelta(microseconds=time.time_ns() // 1_000)


async def _draw() -> float:
    return random.random()


async def _uuid() -> uuid.UUID:
    return uuid.uuid4()
