"""The kit with real processes: workers that get SIGKILL on a real server, some points each, drawn anew each time."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from regrow.actors import NoApplication
from regrow.testing import crash_points

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(180)]

APPS = Path(__file__).parent / "apps"
PATHS = {"counter": f"{APPS / 'counter.py'}:app", "agent": "regrow.bench.crash_app:app"}
POINTS = 2


@pytest.mark.parametrize("name", ["counter", "agent"])
async def test_processes_killed_at_any_point_come_to_the_same(
    name: str, application: Callable[[str], ModuleType], record_property: Callable[[str, object], None]
) -> None:
    report = await crash_points(PATHS[name], application(name).scenario, process=True, points=POINTS)
    record_property("report", str(report))
    assert report.ok, report
    assert report.points + len(report.unreached) == POINTS
    assert report.possible > 70


async def test_a_step_before_its_record_runs_again_in_the_next_process(
    application: Callable[[str], ModuleType],
) -> None:
    report = await crash_points(PATHS["agent"], application("agent").scenario, process=True, only="step 2 after")
    assert report.ok and report.tried == {"step": 1}, report


async def test_an_application_in_a_process_of_its_own_is_given_by_its_path(
    application: Callable[[str], ModuleType],
) -> None:
    counter = application("counter")
    with pytest.raises(TypeError, match="give its path"):
        await crash_points(counter.app, counter.scenario, process=True)
    with pytest.raises(NoApplication, match="there is no file"):
        await crash_points("nowhere.py:app", counter.scenario, process=True)
    with pytest.raises(NoApplication, match="is no System"):
        await crash_points(f"{APPS / 'counter'}.py:scenario", counter.scenario, process=True)


async def test_a_worker_that_cannot_start_is_said_with_its_last_words(
    application: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import sys\nfrom regrow.actors import System\napp = System('broken')\n"
        "if 'regrow.testing.worker' in sys.orig_argv:\n    sys.exit('no key for the model')\n"
    )
    report = await crash_points(f"{broken}:app", application("counter").scenario, process=True, points=1)
    assert "the worker ended with 1; its last words: no key for the model" in str(report)
