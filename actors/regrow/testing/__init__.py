"""The proof kit: deaths at every moment, virtual time, and what tests of an application need; fixtures are in the pytest plugin."""

from regrow.testing.crash import crash_points
from regrow.testing.hosting import in_memory, on_server, replaced
from regrow.testing.outside import Outside
from regrow.testing.report import CrashReport, Difference
from regrow.testing.virtual_time import EndlessLoop, Stalled, VirtualLoop, run_virtual, virtual_time

__all__ = [
    "CrashReport",
    "Difference",
    "EndlessLoop",
    "Outside",
    "Stalled",
    "VirtualLoop",
    "crash_points",
    "in_memory",
    "on_server",
    "replaced",
    "run_virtual",
    "virtual_time",
]
