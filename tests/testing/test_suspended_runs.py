"""Suspended turns are not lost: nothing delivers their messages again, but what ends their waits comes, whoever dies when."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from regrow.testing import crash_points

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(180)]

APP = Path(__file__).parent / "apps" / "suspended.py"
POINTS = 48
AGAIN = 24
REAL = 2
SETTLE_S = 6.0
"""A deadline that a death has left behind is due much later; nothing else comes after the scenario."""

Record = Callable[[str, object], None]


@pytest.mark.parametrize("how", ["app", "with_snapshots"])
async def test_a_death_at_any_moment_loses_no_suspended_turn(
    application: Callable[[str], ModuleType], record_property: Record, how: str
) -> None:
    suspended = application("suspended")
    report = await crash_points(getattr(suspended, how), suspended.scenario, points=POINTS)
    record_property("report", str(report))
    assert report.ok, report
    assert report.points + len(report.unreached) == POINTS
    assert report.tried.keys() >= {"append", "ack", "schedule"}


async def test_the_process_that_takes_a_suspended_turn_over_may_die_too(
    application: Callable[[str], ModuleType], record_property: Record
) -> None:
    suspended = application("suspended")
    report = await crash_points(suspended.app, suspended.scenario, points=AGAIN, twice=True)
    record_property("report", str(report))
    assert report.ok, report


async def test_processes_that_are_killed_around_a_suspension_come_to_the_same(
    application: Callable[[str], ModuleType], record_property: Record
) -> None:
    suspended = application("suspended")
    report = await crash_points(f"{APP}:quick", suspended.scenario, process=True, points=REAL, settle_s=SETTLE_S)
    record_property("report", str(report))
    assert report.ok, report
