"""How a program ended, as its guard says it, and the cause of death that this is; pure."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from regrow.supervisor.exits import Exit, Exited, Killed, OutOfMemory


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a program: `status` as `wait` gives it, sizes in bytes, 0 for those that are not known.

    `limit_bytes` is the limit of memory that was the reason; `left` how many of its processes could not be killed.
    """

    status: int
    peak_bytes: int
    limit_bytes: int
    left: int

    @classmethod
    def parse(cls, words: Sequence[str]) -> Self:
        """From the words of the guard's line."""
        return cls(*map(int, words))

    def cause(self) -> Exit:
        """Why it died, if nobody here ended it."""
        if self.limit_bytes:
            return OutOfMemory(self.limit_bytes, self.peak_bytes or None)
        code = os.waitstatus_to_exitcode(self.status)
        return Killed(-code) if code < 0 else Exited(code)
