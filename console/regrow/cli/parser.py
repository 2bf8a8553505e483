"""What can be typed, and who carries it out. Nothing heavy is imported before a command has been chosen."""

import argparse
import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from regrow.cli.lean import load_structlog
from regrow.cli.operators import add_operators
from regrow.cli.say import INTERRUPTED, say

DEMO_STORE = ".regrow/demo"
INDEX_STORE = ".regrow/index"
DEV_STORES = ".regrow/dev"
SAMPLE_PRODUCTS = 5_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 wrongly typed, 130 interrupted."""
    chosen = parser().parse_args(arguments)
    try:
        load_structlog()
        from regrow.cli.failures import told  # only now: it knows the errors of every layer

        command = importlib.import_module(f"regrow.cli.commands.{chosen.command.replace('-', '_')}")
        return told(command.run, chosen)
    except KeyboardInterrupt:
        say("regrow: stopped before it began")
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    root = argparse.ArgumentParser(
        prog="regrow",
        description="Actors and agents that fail cheaply and recover by themselves.",
        formatter_class=partial(argparse.HelpFormatter, max_help_position=16),
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="index a real product catalogue with four tiers of agents, kill it, watch it regrow"
    )
    size = demo.add_mutually_exclusive_group()
    size.add_argument(
        "--products",
        type=_count,
        default=SAMPLE_PRODUCTS,
        metavar="N",
        help="how many products (default: all 5,000 of the sample)",
    )
    size.add_argument("--full", action="store_true", help="the whole catalogue, 390,381 rows (downloaded once)")
    demo.add_argument(
        "--kill", action="store_true", help="kill the process with SIGKILL in the middle and start it again"
    )
    demo.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    _storage(demo, DEMO_STORE)
    _json(demo)

    index = commands.add_parser("index", help="index a catalogue; started again after any end, it goes on where it was")
    index.add_argument("file", nargs="?", type=Path, help="your own catalogue, .csv or .jsonl (default: --source)")
    index.add_argument(
        "--source", choices=("sample", "usda"), default="sample", help="5,000 rows of USDA FoodData Central, or all"
    )
    index.add_argument("--id", metavar="COLUMN", help="the column with the identifier (default: by its usual names)")
    index.add_argument("--text", metavar="COLUMN", help="the column with the name (default: by its usual names)")
    index.add_argument("--products", type=_count, metavar="N", help="stop after so many products (default: all)")
    _storage(index, INDEX_STORE)
    _json(index)

    recommend = commands.add_parser("recommend", help='answer a question such as "like CHEDDAR CHEESE but less sodium"')
    recommend.add_argument("question")
    _storage(recommend, INDEX_STORE)
    _json(recommend)

    export = commands.add_parser("export", help="print the finished product cards, sorted by id")
    _storage(export, INDEX_STORE, durability=False)
    _json(export)

    dev = commands.add_parser("dev", help="run an application on an embedded server")
    dev.add_argument("app", metavar="APP", help="module:attribute, such as hello:app")
    dev.add_argument(
        "--port", type=_port, default=4222, help="where the embedded server listens (default 4222, 0: any free port)"
    )
    _storage(dev, None)
    _loop(dev)

    run = commands.add_parser("run", help="host an application on a NATS server of your own")
    run.add_argument("app", metavar="APP", help="module:attribute, such as hello:app")
    run.add_argument("--nats", metavar="URL", help="the server (default: NATS_URL, or the selected NATS context)")
    run.add_argument("--context", help="a NATS context by name")
    run.add_argument("--creds", type=Path, help="a credentials file")
    run.add_argument("--create", action="store_true", help="make the application's streams where they are missing")
    _loop(run)

    add_operators(commands)

    bench = commands.add_parser("bench", help="measure, each benchmark beside its floor in the same process")
    bench.add_argument(
        "names", nargs="*", metavar="NAME", help="which (default: list them), or an actor of your own: app.py:Counter"
    )
    bench.add_argument("--message", metavar="JSON", help='what your own actor is asked: {"type": "Add", "amount": 1}')
    bench.add_argument("--all", action="store_true", help="every benchmark")
    bench.add_argument("--repeat", type=_count, default=5, metavar="N", help="measurements of each (default 5)")
    bench.add_argument(
        "--loop",
        choices=("asyncio", "uvloop"),
        default="asyncio",
        help="the event loop (default asyncio; uvloop comes with regrow[fast])",
    )
    bench.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="an earlier run's --json lines: says what became faster or slower, beyond the noise (exit code 1: slower)",
    )
    bench.add_argument(
        "--plot",
        type=Path,
        metavar="DIR",
        help="draw scaling curves and latencies there, and a page with all of them (needs regrow[plots])",
    )
    _json(bench)

    commands.add_parser("version", help="print the versions of regrow and of what it stands on")
    return root


def _storage(command: argparse.ArgumentParser, default: str | None, *, durability: bool = True) -> None:
    command.add_argument(
        "--store",
        type=Path,
        default=Path(default) if default else None,
        metavar="DIR",
        help=f"where everything is kept (default {default or f'{DEV_STORES}/NAME, by the name of the application'})",
    )
    if durability:
        command.add_argument(
            "--durability",
            choices=("disk", "process"),
            default="disk",
            help="disk: an acknowledged append survives a power cut; process: it survives a kill, and costs less",
        )


def _loop(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--loop",
        choices=("auto", "asyncio", "uvloop"),
        default="auto",
        help="the event loop (default auto: uvloop where regrow[fast] is installed, else asyncio's own)",
    )


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def _count(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return number


def _port(text: str) -> int:
    number = int(text) if text.isdigit() else -1
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port between 0 and 65535")
    return number
