"""How many restarts a supervisor tries before it gives up; a sliding window, pure, and one that is kept."""

import math
from collections import deque
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


class Window:
    """The same rule over a window that is kept: a restart costs the same however many are allowed.

    It holds the times of the restarts of the last `per_s` seconds, so at most `limit` of them.
    """

    __slots__ = ("_intensity", "_times")

    def __init__(self, intensity: Intensity) -> None:
        self._intensity = intensity
        self._times: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """True when a restart at `now` is allowed, which then counts; `now` never goes back."""
        times, per_s = self._times, self._intensity.per_s
        while times and now - times[0] > per_s:
            times.popleft()
        if len(times) >= self._intensity.limit:
            return False
        times.append(now)
        return True
