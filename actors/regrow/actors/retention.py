"""How long actors are kept: the decision which of them have been idle for too long. Pure."""

from regrow.actors.overview import Overview

_SECOND_NS = 1_000_000_000


def is_over(overview: Overview, idle_s: float, now_ns: int) -> bool:
    """Whether an actor's time is over: nothing of its own is still to come, and its last record is older than ``idle_s`` seconds.

    An actor that waits for a timer or an answer is not idle, however long that takes; one that was deleted is over already,
    and not once more. ``now_ns``: nanoseconds since 1970.
    """
    if idle_s < 0:
        raise ValueError(f"an actor cannot have been idle for {idle_s:g} seconds; give 0 or more")
    if overview.deleted or overview.waits:
        return False
    return now_ns - overview.time_ns > idle_s * _SECOND_NS
