"""Timers that have been set and have not fired: whoever waits for the end of a run waits for them too."""

import time

from regrow.bus import Address
from regrow.bus.timers import EVERY


class Due:
    """When which timers are due."""

    def __init__(self) -> None:
        self._at_ns: dict[tuple[Address, str], int] = {}

    def set(self, address: Address, timer: str, at_ns: int) -> None:
        """A timer was set; an earlier one of that name is replaced."""
        self._at_ns[address, timer] = at_ns

    def drop(self, address: Address, timer: str) -> None:
        """A timer was removed, or all of the actor with ``*``."""
        for each in [each for each in self._at_ns if each[0] == address and timer in (EVERY, each[1])]:
            del self._at_ns[each]

    def next_s(self, until_ns: int) -> float | None:
        """In how many seconds the next timer fires; None when none does before that time."""
        now_ns = time.time_ns()
        self._at_ns = {each: at_ns for each, at_ns in self._at_ns.items() if at_ns > now_ns}
        next_ns = min(self._at_ns.values(), default=until_ns + 1)
        return (next_ns - now_ns) / 1e9 if next_ns <= until_ns else None
