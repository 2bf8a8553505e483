"""The proof kit: deaths at every moment, a witness, virtual time, and fixtures for pytest (``regrow.testing.plugin``)."""

from regrow.testing.crash import crash_points
from regrow.testing.outside import Outside
from regrow.testing.report import CrashReport, Difference
from regrow.testing.virtual_time import Stalled, VirtualLoop, run_virtual

__all__ = ["CrashReport", "Difference", "Outside", "Stalled", "VirtualLoop", "crash_points", "run_virtual"]
