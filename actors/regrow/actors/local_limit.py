"""The limit of the ask that a handler serves: the asks that it makes in turn end with it, as calls under a gRPC deadline do.

It lies in a context variable, so the tasks that a handler starts have it too. What they have is the same object, and the end of
the handler empties it: a task that outlives its handler asks under its own limits.
"""

import asyncio
from contextvars import ContextVar

from regrow.actors.errors import AskTimeout

Limit = list[float]
"""When it is over, in seconds of the loop's clock; empty once the handler has ended."""

limit_now: ContextVar[Limit | None] = ContextVar("regrow.local_limit", default=None)
"""What the running handler is under; None or empty where it serves no ask that waits."""


def seconds_left(timeout_s: float, actor: object) -> float:
    """That long, or until the limit is over. Raises ``AskTimeout`` where it is over already."""
    limit = limit_now.get()
    if not limit:
        return timeout_s
    left_s = limit[0] - asyncio.get_running_loop().time()
    if left_s <= 0:
        raise AskTimeout(str(actor), 0.0)
    return min(timeout_s, left_s)


def limit_asks(due: float) -> Limit:
    """From now on this context's asks end at that time; until the returned limit is cleared."""
    limit = [due]
    limit_now.set(limit)
    return limit
