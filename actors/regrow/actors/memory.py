"""How much of the memory that this process may use is used."""

import os
from functools import cache
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/memory.max")
_STATM = Path("/proc/self/statm")


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
