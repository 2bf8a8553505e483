"""``regrow bench``: each benchmark beside its floor, in the same process."""

import argparse
from pathlib import Path

import msgspec

from regrow.bench import LoopMissing, Measured, bench_names, run_benchmarks
from regrow.bench.comparison import Change, NotResults, changed, read_results, worse
from regrow.bench.curves import measure_curves
from regrow.bench.machine import this_machine
from regrow.bench.own_actor import NoSuchActor, own_actor
from regrow.bench.plan import Bench
from regrow.bench.plots import PlotsMissing, check_plots, draw
from regrow.bench.result import Result
from regrow.bench.run import loop_factory
from regrow.bench.sample import percentiles
from regrow.cli.failures import CommandFailed
from regrow.cli.say import say

SLOWER = 1
"""The exit code of ``--compare`` when something became slower, beyond the noise."""


def run(chosen: argparse.Namespace) -> int:
    """Prints one JSON line, or one line for people, per metric; what else there is to say goes to standard error."""
    names, own = _chosen(chosen)
    earlier = _earlier(chosen.compare) if chosen.compare is not None else None
    measured, changes = list[Measured](), list[Change]()
    if chosen.plot is not None:
        check_plots_here()
    machine = this_machine()

    def show(each: Measured) -> None:
        measured.append(each)
        print(msgspec.json.encode(each.line).decode() if chosen.json else _line(each), flush=True)
        if earlier is not None:
            changes.append(changed(each, earlier))
            say(str(changes[-1]))

    try:
        loop_factory(chosen.loop)
        say(str(machine))
        run_benchmarks(names, repeat=chosen.repeat, loop=chosen.loop, on_result=show, own=own)
        if chosen.plot is not None:
            curves = measure_curves(names, repeat=chosen.repeat, loop=chosen.loop, on_point=_tell)
            page = draw(chosen.plot, machine, measured, curves)[0]
            say(f"drawn: {page}")
    except LoopMissing as missing:
        raise CommandFailed(f"{missing} with --loop asyncio") from None
    return SLOWER if worse(changes) else 0


def check_plots_here() -> None:
    """Raises ``CommandFailed`` where nothing can be drawn."""
    try:
        check_plots()
    except PlotsMissing as missing:
        raise CommandFailed(str(missing)) from None


def _chosen(chosen: argparse.Namespace) -> tuple[tuple[str, ...], dict[str, Bench]]:
    """The benchmarks to run, and those of them that are a user's own actors."""
    known = bench_names()
    names = known if chosen.all else tuple(chosen.names)
    own = {name: _own(name, chosen.message) for name in names if ":" in name}
    unknown = [name for name in names if name not in known and name not in own]
    if unknown or not names:
        said = f"there is no benchmark {unknown[0]!r}; " if unknown else ""
        raise CommandFailed(
            f"{said}choose from: {', '.join(known)}, or --all, or an actor of your own: app.py:Counter --message '{{…}}'"
        )
    if chosen.message is not None and not own:
        raise CommandFailed("--message is for an actor of your own: regrow bench app.py:Counter --message '{…}'")
    return names, own


def _own(path: str, message: str | None) -> Bench:
    if message is None:
        raise CommandFailed(f'say what {path} is to be asked: --message \'{{"type": "Add", "amount": 1}}\'')
    try:
        return own_actor(path, message)
    except NoSuchActor as missing:
        raise CommandFailed(str(missing)) from None


def _earlier(file: Path) -> list[Result]:
    try:
        return read_results(file.read_text(encoding="utf-8"))
    except NotResults as error:
        raise CommandFailed(f"{file} cannot be compared with: {error}") from None
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}") from None


def _line(each: Measured) -> str:
    line = each.line
    noisy = f"  too noisy to conclude from (ratios {each.noise:.0%} apart)" if each.is_noisy else ""
    said = (
        f"{line.bench:10} {line.metric:18} {line.value:>14,.1f} {line.unit:8} "
        f"floor {line.floor:>14,.1f}  ratio {line.ratio:.2f}  spread {line.spread:.0%}{noisy}"
    )
    if not each.times:
        return said
    found = "  ".join(f"p{share * 100:g} {value:,.1f}" for share, value in percentiles(each.times)[:-1])
    return f"{said}\n{'':10} {len(each.times):,} calls: {found}  max {max(each.times):,.1f}"


def _tell(curve: str, size: int, each: Measured) -> None:
    say(
        f"{curve} {size:,}: {each.line.value:,.1f} {each.line.unit}, floor {each.line.floor:,.1f}, ratio {each.line.ratio:.2f}"
    )
