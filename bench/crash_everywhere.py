"""A death at every moment of two applications, each compared with its undisturbed run: a slice of the catalogue run, and an agent.

``agent`` is some twenty steps with gather, a race, a timeout, threads, retries, asks, a timer and a booking that is made once;
``catalogue`` is the four tiers over a few products, one lot after the other, so that everything is compared; ``lots`` has two lots
at once, so that who is first differs, and with it what the catalog is asked: how often what ran is not compared there, only that
nothing ran again whose outcome was recorded. In memory and virtual time, all points; with ``--process N`` that many points of
each, with workers that get SIGKILL on a real server.

    python bench/crash_everywhere.py
    python bench/crash_everywhere.py --app catalogue --products 5 --points 100 --seed 7
    python bench/crash_everywhere.py --process 5

Prints a line for each application, with the points of each kind; with ``--json`` as JSON. Exits 1 with the first difference
and the line that repeats it.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from regrow.actors.logs import log_to_stderr
from regrow.bench import crash_app
from regrow.bench.crash_catalogue import PATH, Slice, without_order
from regrow.testing import CrashReport, crash_points

AGENT_PATH = "regrow.bench.crash_app:app"
APPS = ("agent", "catalogue", "lots")


def main() -> int:
    """Tries and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--app", choices=APPS, help="only this one")
    parser.add_argument("--products", type=int, default=4, help="of the catalogue's slice")
    parser.add_argument("--points", type=int, help="so many of each, drawn with the seed; without it all")
    parser.add_argument("--seed", type=int, help="of what is drawn")
    parser.add_argument("--only", help="one point, by the name in a report; with --app")
    parser.add_argument("--twice", action="store_true", help="the process that takes over dies too; in memory")
    parser.add_argument("--process", type=int, metavar="N", help="N points with real processes and kills")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.only and not chosen.app:
        parser.error("--only names a point of one application: say which, --app NAME")
    if chosen.twice and chosen.process is not None:
        parser.error("--twice is in memory only: leave --process out")
    log_to_stderr("error")
    apps = APPS if chosen.app is None else (chosen.app,)
    return max([asyncio.run(tried(name, chosen)) for name in apps])


async def tried(name: str, chosen: argparse.Namespace) -> int:
    """Tries the deaths of one application and prints how they went; 1 if one differs."""
    with tempfile.TemporaryDirectory(prefix="regrow-crash-everywhere-") as folder:
        report = await (in_memory if chosen.process is None else with_kills)(name, chosen, Path(folder))
    say = json_line if chosen.json else line
    print(say(name, report, "memory" if chosen.process is None else "kills"), flush=True)  # noqa: T201 # a script prints
    if report.first is None:
        return 0
    print(f"{report}\nHere: {repeat_line(name, report, chosen)}", file=sys.stderr)  # noqa: T201
    return 1


async def in_memory(name: str, chosen: argparse.Namespace, folder: Path) -> CrashReport:
    """In this process, in virtual time."""
    what = {"only": chosen.only, "points": chosen.points, "seed": chosen.seed, "twice": chosen.twice}
    if name == "agent":
        return await crash_points(crash_app.app, crash_app.scenario, **what)
    if name == "catalogue":
        one = Slice(folder, products=chosen.products, lots_at_once=1)
        return await crash_points(one.system, one.scenario, **what)
    two = Slice(folder, products=chosen.products, lots_at_once=2)
    return await crash_points(two.system, two.scenario, witness=False, view=without_order, **what)


async def with_kills(name: str, chosen: argparse.Namespace, folder: Path) -> CrashReport:
    """On a real server, in workers that get SIGKILL."""
    if name == "agent":
        scenario = crash_app.scenario
        return await crash_points(
            AGENT_PATH, scenario, process=True, only=chosen.only, points=chosen.process, seed=chosen.seed
        )
    found = Slice(folder, products=chosen.products, lots_at_once=1 if name == "catalogue" else 2)
    return await crash_points(
        PATH,
        found.scenario_elsewhere,
        process=True,
        view=without_order,
        only=chosen.only,
        points=chosen.process,
        seed=chosen.seed,
    )


def line(name: str, report: CrashReport, how: str) -> str:
    """The report as a line to read."""
    kinds = ", ".join(f"{what} {count}" for what, count in report.tried.items())
    drawn = "" if report.seed is None else f", seed {report.seed}"
    unreached = f", {len(report.unreached)} not reached" if report.unreached else ""
    word = "ok" if report.ok else "DIFFERS"
    return (
        f"{name:<10} {how:<7} {word:<8} {report.points:>5} of {report.possible} points in {report.seconds:.1f} s"
        f"{drawn}{unreached}: {kinds or 'none'}"
    )


def json_line(name: str, report: CrashReport, how: str) -> str:
    """The same as one line of JSON."""
    document = {
        "v": 1,
        "application": name,
        "how": how,
        "ok": report.ok,
        "points": report.points,
        "possible": report.possible,
        "tried": report.tried,
        "unreached": len(report.unreached),
        "seconds": round(report.seconds, 1),
        "seed": report.seed,
        "first": None if report.first is None else report.first.point,
    }
    return json.dumps(document)


def repeat_line(name: str, report: CrashReport, chosen: argparse.Namespace) -> str:
    """What to type to see the difference again."""
    words = ["python", "bench/crash_everywhere.py", "--app", name]
    if name != "agent":
        words += ["--products", str(chosen.products)]
    if report.first is not None and report.first.point:
        words += ["--only", f"'{report.first.point}'"]
    return " ".join(words if chosen.process is None else [*words, "--process", "1"])


if __name__ == "__main__":
    sys.exit(main())
