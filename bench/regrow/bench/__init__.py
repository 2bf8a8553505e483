"""Benchmarks of regrow, each beside a floor that is measured in the same process."""

from regrow.bench.result import Measured, Result
from regrow.bench.run import Loop, LoopMissing, UnknownBench, bench_names, run_benchmarks

__all__ = ["Loop", "LoopMissing", "Measured", "Result", "UnknownBench", "bench_names", "run_benchmarks"]
