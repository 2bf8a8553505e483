"""Pictures of what was measured: a PNG for each scaling curve and each distribution of latencies, and one page with all of them.

Drawn with matplotlib, which comes with ``pip install 'regrow[plots]'``.
"""

import base64
import html
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from regrow.bench.curves import Curve
from regrow.bench.machine import Machine
from regrow.bench.result import Measured
from regrow.bench.sample import quantile

OURS, FLOOR, RATIO = "#1f5fa8", "#8a8f98", "#b3541e"
WIDTH_IN, HEIGHT_IN, DPI = 8.0, 4.5, 120
MARKED = (0.5, 0.9, 0.99, 0.999, 0.9999)


class PlotsMissing(RuntimeError):
    """Nothing can be drawn here."""

    def __init__(self) -> None:
        super().__init__("matplotlib is not installed; get it with: pip install 'regrow[plots]', or leave --plot away")


def check_plots() -> None:
    """Raises ``PlotsMissing`` before anything is measured in vain."""
    _pyplot()


def draw(folder: Path, machine: Machine, measured: Sequence[Measured], curves: Sequence[Curve]) -> list[Path]:
    """Writes the pictures and ``index.html``, which needs none of them beside it; what was written, the page first."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [(f"{each.metric}-{each.name}", f"{each.metric} by {each.along}", _curve(each)) for each in curves]
    pictures += [
        (f"{each.line.metric}-latency", f"{each.line.bench}: {each.line.metric}, all calls", _latencies(each))
        for each in measured
        if each.times
    ]
    page = folder / "index.html"
    page.write_text(_page(machine, measured, pictures), encoding="utf-8")
    written = [page]
    for name, _, picture in pictures:
        (folder / f"{name}.png").write_bytes(picture)
        written.append(folder / f"{name}.png")
    return written


def _curve(curve: Curve) -> bytes:
    plots = _pyplot()
    figure, (values, ratios) = plots.subplots(
        2, 1, sharex=True, figsize=(WIDTH_IN, HEIGHT_IN), height_ratios=(3, 1), layout="constrained"
    )
    sizes = [size for size, _ in curve.points]
    for side, colour, label in ((0, OURS, "regrow"), (1, FLOOR, "floor")):
        middle = [(each.line.value, each.line.floor)[side] for _, each in curve.points]
        spread = [(each.ours, each.floors)[side] for _, each in curve.points]
        values.fill_between(sizes, [min(one) for one in spread], [max(one) for one in spread], color=colour, alpha=0.2)
        values.plot(sizes, middle, "o-", color=colour, label=label)
    values.set(xscale="log", yscale="log", ylabel=f"{curve.metric} ({curve.unit})")
    values.legend()
    found = [each.line.ratio for _, each in curve.points]
    ratios.plot(sizes, found, "o-", color=RATIO)
    ratios.axhline(1.0, color=FLOOR, linewidth=0.8)
    ratios.set(xlabel=curve.along, ylabel="ratio", ylim=(0, 1.15 * max(1.0, *found)))
    for axes in (values, ratios):
        axes.grid(visible=True, which="major", alpha=0.3)
    return _png(figure)


def _latencies(measured: Measured) -> bytes:
    """By how seldom they are exceeded, as an HDR histogram is drawn: each decade to the right is one more nine."""
    plots = _pyplot()
    figure, axes = plots.subplots(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    for times, colour, label in ((measured.times, OURS, "regrow"), (measured.floor_times, FLOOR, "floor")):
        ordered = sorted(times)
        count = len(ordered)
        axes.step([count / (count - place) for place in range(count)], ordered, where="post", color=colour, label=label)
    known = [share for share in MARKED if (1 - share) * len(measured.times) >= 1]
    axes.set(xscale="log", yscale="log", xlabel="percentile", ylabel=f"latency ({measured.line.unit})")
    axes.set_xticks([1 / (1 - share) for share in known], [f"{share * 100:g}%" for share in known])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return _png(figure)


def _png(figure: Any) -> bytes:
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    _pyplot().close(figure)
    return drawn.getvalue()


def _page(machine: Machine, measured: Sequence[Measured], pictures: Sequence[tuple[str, str, bytes]]) -> str:
    rows = "\n".join(_row(each) for each in measured)
    shown = "\n".join(
        f'<h2>{html.escape(title)}</h2>\n<img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        for _, title, picture in pictures
    )
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>regrow: benchmarks</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1f24; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #d8dbe0; font-variant-numeric: tabular-nums; }}
th:first-child, td:first-child {{ text-align: left; }}
img {{ width: 100%; height: auto; }}
</style>
<h1>regrow: benchmarks</h1>
<p>{html.escape(str(machine))}</p>
<p>Each metric beside its floor, the least that could do the same work, measured in the same process by turns. Ratio: our speed over the
floor's; higher is better. Noise: how far the ratios of the repeats are apart.</p>
<table>
<tr><th>metric<th>value<th>floor<th>unit<th>ratio<th>noise<th>p99
{rows}
</table>
{shown}
</html>
"""


def _row(measured: Measured) -> str:
    line = measured.line
    late = f"{quantile(measured.times, 0.99):,.1f}" if measured.times else ""
    noisy = " (too noisy)" if measured.is_noisy else ""
    return (
        f"<tr><td>{html.escape(line.metric)}<td>{line.value:,.1f}<td>{line.floor:,.1f}<td>{html.escape(line.unit)}"
        f"<td>{line.ratio:.2f}<td>{measured.noise:.0%}{noisy}<td>{late}"
    )


def _pyplot() -> Any:
    """matplotlib's drawing functions, for files alone. Raises ``PlotsMissing``."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise PlotsMissing from None
    mpl.use("agg")
    import matplotlib.pyplot as plots

    return plots
