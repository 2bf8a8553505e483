"""How many restarts a supervisor tries before it gives up; a pure sliding window."""

import math
from dataclasses import KW_ONLY, dataclass

from regrow.supervisor.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Intensity:
    """At most `limit` restarts within `per_s` seconds, over all children of one supervisor.

    Three within five seconds are Elixir's defaults. A limit of 0 gives up at the first death.
    """

    limit: int = 3
    _: KW_ONLY
    per_s: float = 5.0

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise InvalidOption(f"the limit of restarts must be 0 or more, not {self.limit}")
        if not 0 < self.per_s < math.inf:
            raise InvalidOption(f"per_s must be a positive number of seconds, not {self.per_s}")


def admit(window: tuple[float, ...], now: float, intensity: Intensity) -> tuple[float, ...] | None:
    """The window with a restart at `now` in it, or None when that is one too many.

    `window` holds the times of earlier restarts, oldest first, in seconds of the clock of `now`. A restart
    exactly `per_s` ago still counts, as in OTP's supervisor.erl.
    """
    recent = (*(at for at in window if now - at <= intensity.per_s), now)
    return recent if len(recent) <= intensity.limit else None
