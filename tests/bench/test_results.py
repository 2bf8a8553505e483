"""The lines of ``regrow bench``: their keys, the arithmetic of their ratio, and each benchmark once at a tiny size."""

import math
import sys
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from regrow.bench import LoopMissing, Measured, UnknownBench, bench_names, run_benchmarks
from regrow.bench.plan import Plan, compare
from regrow.bench.result import result

KEYS = ["v", "bench", "metric", "value", "unit", "floor", "ratio", "repeat", "spread", "loop"]

METRICS = {
    "tell": {"tell_per_s"},
    "ask": {"ask_p50_us", "asks_per_s"},
    "fanout": {"fanout_per_s"},
    "ring": {"hop_us"},
    "spawn": {"spawn_per_s", "idle_bytes"},
    "restart": {"restart_p50_us", "restarts_per_s"},
    "append": {"append_per_s", "append_fsync_per_s"},
    "turn": {"turn_us", "turn_fsync_us", "turn_remote_us", "turn_remote_fsync_us"},
    "steps": {"steps_per_s", "steps_fsync_per_s"},
    "recover": {"recover_per_s"},
    "timers": {"timer_late_p99_ms"},
}


def test_a_line_has_exactly_the_fixed_keys_in_their_order() -> None:
    line = result("ask", "ask_p50_us", "us", [8.0], [6.0], loop="asyncio", better="lower")
    assert list(msgspec.json.decode(msgspec.json.encode(line), type=dict[str, object])) == KEYS
    assert line.v == 1


def test_value_and_floor_are_medians_and_the_spread_is_relative() -> None:
    line = result("tell", "tell_per_s", "1/s", [90.0, 100.0, 400.0], [50.0, 200.0, 1_000.0], loop="x", better="higher")
    assert (line.value, line.floor, line.repeat, line.spread) == (100.0, 200.0, 3, 3.1)


def test_the_ratio_of_a_rate_is_ours_over_the_floor() -> None:
    assert result("b", "m", "1/s", [50.0], [200.0], loop="x", better="higher").ratio == 0.25


def test_the_ratio_of_a_time_is_the_floor_over_ours() -> None:
    assert result("b", "m", "us", [200.0], [50.0], loop="x", better="lower").ratio == 0.25


@pytest.mark.asyncio
async def test_each_side_warms_up_once_and_then_they_take_turns_at_being_first() -> None:
    ran: list[str] = []

    def side(name: str) -> Callable[[], Awaitable[float]]:
        async def measure() -> float:
            ran.append(name)
            return float(len(ran))

        return measure

    line = await compare(Plan(repeat=2), "b", "m", "1/s", side("ours"), side("floor"), better="higher")
    assert ran == ["ours", "floor", "ours", "floor", "floor", "ours"]
    assert (line.line.value, line.line.floor, line.line.repeat, line.line.loop) == (4.5, 4.5, 2, "asyncio")
    assert (line.ours, line.floors, line.times) == ((3.0, 6.0), (4.0, 5.0), ())


def test_a_plan_that_measures_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="repeat must be 1 or more"):
        Plan(repeat=0)
    assert Plan(scale=0.001).count(10) == 1


def test_an_unknown_name_is_refused_before_anything_runs() -> None:
    results: list[Measured] = []
    with pytest.raises(UnknownBench, match="no benchmark is called 'nap'; there are tell, ask"):
        run_benchmarks(["tell", "nap"], on_result=results.append)
    assert results == []


def test_a_loop_that_is_not_installed_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    results: list[Measured] = []
    with pytest.raises(LoopMissing, match=r"uvloop is not installed; get it with: pip install 'regrow\[fast\]'"):
        run_benchmarks(["tell"], loop="uvloop", on_result=results.append)
    assert results == []


def test_a_line_says_which_loop_it_was_measured_on() -> None:
    results: list[Measured] = []
    run_benchmarks(["tell"], repeat=1, scale=0.001, loop="asyncio", on_result=results.append)
    assert [each.line.loop for each in results] == ["asyncio"]


def test_every_benchmark_is_listed() -> None:
    assert bench_names() == tuple(METRICS)


@pytest.mark.parametrize("name", list(METRICS))
def test_each_benchmark_runs_at_a_tiny_size(name: str) -> None:
    results: list[Measured] = []
    run_benchmarks([name], repeat=2, scale=0.02, on_result=results.append)
    assert {each.line.metric for each in results} == METRICS[name]
    for each in (measured.line for measured in results):
        assert each.bench == name
        assert each.repeat == 2
        assert each.value > 0
        assert each.floor > 0
        assert math.isfinite(each.ratio)
        assert each.ratio > 0
