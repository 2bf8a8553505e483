"""Crash reports: one line at once, then one for many."""

import asyncio

import pytest
from structlog.testing import capture_logs
from tests.supervisor.puppet import AT_ONCE, Puppet, puppets

from regrow.supervisor import ChildSpec, DynamicSupervisor, Intensity, Start, Supervisor
from regrow.supervisor.repeats import WINDOW_S

pytestmark = pytest.mark.asyncio

OFTEN = Intensity(1000, per_s=1.0)


async def crash_often(puppet: Puppet, times: int) -> None:
    for _ in range(times):
        puppet.crash(ValueError("the user's secret"))
        await puppet.wait_came(len(puppet.starts) + 1)


async def test_a_single_death_is_reported_at_once(story: list[str]) -> None:
    a = Puppet("a", story)
    with capture_logs() as logs:
        async with Supervisor("root", children=[a.spec()]):
            await crash_often(a, 1)
            assert len(logs) == 1
            await asyncio.sleep(10 * WINDOW_S)
    assert logs == [
        {
            "event": "child_died",
            "log_level": "warning",
            "supervisor": "root",
            "child": "a",
            "cause": "Crashed",
            "error": "ValueError",
            "restarts": 0,
            "action": "restart",
        }
    ]


async def test_deaths_alike_are_counted_and_told_in_one_line(story: list[str]) -> None:
    a = Puppet("a", story)
    with capture_logs() as logs:
        async with Supervisor("root", children=[a.spec()], intensity=OFTEN):
            await crash_often(a, 50)
            assert len(logs) == 1
            await asyncio.sleep(WINDOW_S)
            assert [(line.get("repeated"), line["restarts"]) for line in logs] == [(None, 0), (49, 49)]
            await crash_often(a, 1)
            assert len(logs) == 2
            await asyncio.sleep(2 * WINDOW_S)
            assert logs[2]["repeated"] == 1
            await crash_often(a, 1)
            assert "repeated" not in logs[3]
    assert "secret" not in str(logs)


async def test_what_was_counted_is_told_when_the_supervisor_stops(story: list[str]) -> None:
    a = Puppet("a", story)
    with capture_logs() as logs:
        async with Supervisor("root", children=[a.spec()], intensity=OFTEN):
            await crash_often(a, 3)
    assert [line.get("repeated") for line in logs] == [None, 2]


async def test_another_child_or_another_error_is_another_report(story: list[str]) -> None:
    a, b = puppets("ab", story)
    with capture_logs() as logs:
        async with Supervisor("root", children=[a.spec(), b.spec()], intensity=OFTEN):
            await crash_often(a, 1)
            await crash_often(b, 1)
            a.crash(KeyError())
            await a.wait_came(3)
            a.finish()
            await a.wait_came(4)
    assert [(line["child"], line["cause"], line["error"]) for line in logs] == [
        ("a", "Crashed", "ValueError"),
        ("b", "Crashed", "ValueError"),
        ("a", "Crashed", "KeyError"),
        ("a", "Normal", None),
    ]


async def test_many_children_of_one_spec_are_one_report() -> None:
    async def crash(start: Start) -> None:
        start.ready()
        await asyncio.sleep(0.1)
        raise ValueError

    with capture_logs() as logs:
        async with DynamicSupervisor("pool") as pool:
            for _ in range(100):
                await pool.start_child(ChildSpec(id="worker", run=crash, restart="temporary", backoff=AT_ONCE))
            await asyncio.sleep(2 * WINDOW_S)
    assert [line.get("repeated") for line in logs] == [None, 99]
