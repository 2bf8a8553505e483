"""``regrow bench``: each benchmark beside its floor, in the same process."""

import argparse

import msgspec

from regrow.bench import LoopMissing, Result, bench_names, run_benchmarks
from regrow.cli.failures import CommandFailed


def run(chosen: argparse.Namespace) -> int:
    """Prints one JSON line, or one line for people, per metric."""
    known = bench_names()
    names = known if chosen.all else tuple(chosen.names)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        said = f"there is no benchmark {unknown[0]!r}; " if unknown else ""
        raise CommandFailed(f"{said}choose from: {', '.join(known)}, or --all")

    def show(result: Result) -> None:
        if chosen.json:
            print(msgspec.json.encode(result).decode(), flush=True)
        else:
            print(
                f"{result.bench:10} {result.metric:18} {result.value:>14,.1f} {result.unit:8} "
                f"floor {result.floor:>14,.1f}  ratio {result.ratio:.2f}  spread {result.spread:.0%}",
                flush=True,
            )

    try:
        run_benchmarks(names, repeat=chosen.repeat, loop=chosen.loop, on_result=show)
    except LoopMissing as missing:
        raise CommandFailed(f"{missing} with --loop asyncio") from None
    return 0
