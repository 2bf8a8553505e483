"""What is around a benchmark: the machine's description, the comparison with an earlier run, curves, pictures, anybody's actor."""

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest

from regrow.bench import Measured, Result
from regrow.bench.comparison import NotResults, changed, read_results, worse
from regrow.bench.curves import SCALINGS, Curve, measure_curves
from regrow.bench.machine import Machine, this_machine
from regrow.bench.own_actor import NoSuchActor, load_actor, own_actor
from regrow.bench.plan import Plan
from regrow.bench.plots import PlotsMissing, check_plots, draw
from regrow.bench.result import result
from regrow.bench.sample import percentiles

PNG = b"\x89PNG"

MACHINE = Machine(
    cores=2,
    processor="a processor",
    memory_bytes=24 * 2**30,
    system="Linux 6",
    python="3.11.7",
    libraries={"nats-py": "2.16.0"},
    load=0.1,
)

APP = """
from regrow.actors import Actor, Event, LocalActor, Message, command, event

class Add(Message[int]):
    amount: int

class Added(Event):
    amount: int

class Counter(Actor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(amount=msg.amount))
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount

class Fast(LocalActor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.total += msg.amount
        return self.total
"""


def measured(*ours: float, floor: float = 100.0, times: tuple[float, ...] = ()) -> Measured:
    floors = [floor] * len(ours)
    line = result("tell", "tell_per_s", "1/s", ours, floors, loop="asyncio", better="higher")
    return Measured(line=line, ours=ours, floors=tuple(floors), better="higher", times=times, floor_times=times)


def line(ratio: float, spread: float = 0.01) -> Result:
    return msgspec.structs.replace(measured(100.0).line, ratio=ratio, spread=spread)


def test_noise_is_how_far_the_ratios_of_the_repeats_are_apart() -> None:
    quiet, noisy = measured(100.0, 110.0, 105.0), measured(50.0, 100.0, 150.0)
    assert round(quiet.noise, 3) == round(10 / 105, 3)
    assert (quiet.is_noisy, noisy.noise, noisy.is_noisy) == (False, 1.0, True)


@pytest.mark.parametrize(
    ("before", "verdict"),
    [
        (line(1.0), "the same"),
        (line(0.8), "faster"),
        (line(1.25), "slower"),
        (line(1.25, spread=0.25), "the same"),
        (line(1.0, spread=0.9), "too noisy to conclude from"),
        (line(0.2, spread=0.9), "faster"),
    ],
)
def test_a_change_counts_where_it_is_larger_than_the_noise_of_either_run(before: Result, verdict: str) -> None:
    assert changed(measured(100.0, 101.0), [before]).verdict == verdict


def test_the_last_earlier_line_of_the_same_metric_and_loop_is_compared_with() -> None:
    others = [
        line(0.5),
        msgspec.structs.replace(line(9.0), loop="uvloop"),
        msgspec.structs.replace(line(9.0), metric="x"),
    ]
    found = changed(measured(100.0), others)
    assert (found.verdict, found.change) == ("faster", 1.0)
    assert str(found) == "tell_per_s: faster (+100% against the floor, noise 10%; it was 0.50)"
    new = changed(measured(100.0), [])
    assert str(new) == "tell_per_s: not in the earlier run"
    assert not worse([found, new])
    assert worse([changed(measured(100.0), [line(2.0)])])


def test_the_lines_of_an_earlier_run_are_read_again_and_others_are_named_by_their_number() -> None:
    written = msgspec.json.encode(line(1.0)).decode()
    assert read_results(f"{written}\n{written}\n") == [line(1.0)] * 2
    with pytest.raises(NotResults, match="line 2 is no line of 'regrow bench --json'"):
        read_results(f"{written}\nhello")
    with pytest.raises(NotResults, match="it is empty"):
        read_results("")


def test_percentiles_are_exact_and_end_with_the_largest() -> None:
    found = dict(percentiles([float(number) for number in range(1, 1001)]))
    assert (found[0.5], found[0.9], found[0.99], found[0.999], found[1.0]) == (500.0, 900.0, 990.0, 999.0, 1000.0)


def test_the_machine_is_described_with_what_figures_depend_on() -> None:
    here = this_machine()
    assert here.cores >= 1
    assert here.memory_bytes > 2**28
    assert {"nats-py", "msgspec"} <= set(here.libraries)
    assert str(MACHINE) == "2 cores of a processor, 24 GiB, Linux 6, load 0.1; Python 3.11.7, nats-py 2.16.0"
    assert "load 2.0 (busy: trust ratios only)" in str(msgspec.structs.replace(MACHINE, load=2.0))


def test_a_curve_is_measured_at_each_size_and_told_as_it_is() -> None:
    told = list[tuple[str, int]]()
    found = measure_curves(
        ["tell", "ask"], repeat=1, scale=0.002, on_point=lambda name, size, _: told.append((name, size))
    )
    assert told == [("concurrency", size) for size in SCALINGS["ask"].sizes]
    assert [(each.name, each.metric, each.unit, len(each.points)) for each in found] == [
        ("concurrency", "asks_per_s", "1/s", 4)
    ]


@pytest.mark.parametrize("name", ["fanout", "append", "recover"])
def test_the_smallest_size_of_each_other_curve_is_measured(name: str) -> None:
    scaling = SCALINGS[name]

    async def smallest() -> Measured:
        return await scaling.measure(Plan(repeat=1, scale=0.02), scaling.sizes[0])

    assert asyncio.run(smallest()).line.value > 0


def test_curves_and_latencies_are_drawn_and_one_page_shows_all(tmp_path: Path) -> None:
    timed = measured(100.0, 110.0, times=tuple(float(number) for number in range(1, 2001)))
    curve = Curve(name="actors", along="actors told", points=tuple((10**n, measured(100.0, 120.0)) for n in range(3)))
    written = draw(tmp_path / "plots", MACHINE, [timed, measured(1.0, 3.0)], [curve])
    names = [each.name for each in written]
    assert names == ["index.html", "tell_per_s-actors.png", "tell_per_s-latency.png"]
    assert all(each.read_bytes().startswith(PNG) for each in written[1:])
    page = written[0].read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "2 cores of a processor" in page
    assert "(too noisy)" in page


def test_without_matplotlib_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotsMissing, match=r"matplotlib is not installed; get it with: pip install 'regrow\[plots\]'"):
        check_plots()


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "counting.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "counting", raising=False)
    return "counting.py"


@pytest.mark.parametrize("name", ["Fast", "Counter"])
def test_an_actor_of_ones_own_is_measured_beside_its_floor(app: str, name: str) -> None:
    bench = own_actor(f"{app}:{name}", '{"type": "Add", "amount": 1}')
    found = asyncio.run(bench(Plan(repeat=1, scale=0.02)))
    assert [each.line.metric for each in found] == ["ask_p50_us", "asks_per_s"]
    assert all(each.line.bench == f"{app}:{name}" and each.line.value > 0 and each.line.floor > 0 for each in found)
    assert found[0].times


def test_an_actor_is_found_by_its_module_too(app: str) -> None:
    assert load_actor("counting:Fast").__name__ == "Fast"


@pytest.mark.parametrize(
    ("path", "message", "said"),
    [
        ("counting.py:Fasd", "{}", "counting.py has no actor class 'Fasd'; it has Counter, Fast"),
        ("nix.py:Fast", "{}", "there is no file nix.py"),
        ("nix:Fast", "{}", "there is no module 'nix' here"),
        ("counting.py:Fast", '{"type": "Sub"}', "fast knows no message 'Sub'; it accepts Add"),
        ("counting.py:Fast", "{", "cannot be asked with --message"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(app: str, path: str, message: str, said: str) -> None:
    with pytest.raises(NoSuchActor) as caught:
        own_actor(path, message)
    assert said in str(caught.value)
