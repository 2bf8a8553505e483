"""How much of the memory that this process may use is used, and how often it is searched for garbage."""

import gc
import os
from functools import cache
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/memory.max")
_STATM = Path("/proc/self/statm")


def collect_less() -> None:
    """Searches for garbage less often than Python does by itself, for a process that hosts actors and little else.

    With 2,000 handlers at work half of the processor's time went into looking at what they hold, again and again after a few
    hundred new objects, although almost all of it is freed without such a search. A library does not decide this for
    its process: the command line does, and who hosts a system in a process of his own may.
    """
    gc.set_threshold(50_000, 20, 100)


def used_share() -> float:
    """This process's resident memory over the least of its control group's limit and the machine's; 0 where neither is known."""
    limit = _limit_bytes()
    try:
        pages = int(_STATM.read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / limit if limit else 0.0


@cache
def _limit_bytes() -> int:
    limits: list[int] = []
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        limits.append(int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        pass
    return min(limits, default=0)
