"""How long to wait before a restart; pure: the random draw is passed in."""

import math
from dataclasses import dataclass

from regrow.supervisor.errors import InvalidOption


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with full jitter, in seconds.

    Restart n in a row, counted from 0, waits a random time below `first_s * factor ** n`, at most `max_s`.
    OTP restarts at once, and so does `first_s=0`; but most deaths here come from something outside that needs
    a moment, and full jitter keeps children that died together from coming back together.
    """

    first_s: float = 0.05
    factor: float = 2.0
    max_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.first_s <= self.max_s < math.inf:
            raise InvalidOption(f"backoff needs 0 <= first_s <= max_s, in seconds, not {self.first_s} and {self.max_s}")
        if not 1 <= self.factor < math.inf:
            raise InvalidOption(f"a backoff's factor must be 1 or more, not {self.factor}")

    def delay_s(self, attempt: int, draw: float) -> float:
        """Seconds to wait before restart number `attempt` in a row (from 0), for a `draw` in [0, 1)."""
        if not self.first_s:
            return 0.0
        try:
            ceiling_s = min(self.max_s, self.first_s * self.factor**attempt)
        except OverflowError:
            ceiling_s = self.max_s
        return ceiling_s * draw

    def is_over(self, ran_s: float) -> bool:
        """True when a child ran long enough, `max_s`, for its next restart to be the first in a row again."""
        return ran_s >= self.max_s
