"""A hunt: many programs, each undisturbed and then with a death at every journal write, many trials to a host."""

import asyncio
import gc
import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import structlog
from tests.property.growing import grown
from tests.property.trial import Trial, every_point, run

from regrow.testing import VirtualLoop

AT_ONCE = 100
"""Trials that share a host."""
SNAPSHOTS = (500, 3)
"""Records after which a snapshot is taken, in turn from host to host."""
THREADS = 256
THREAD_PATIENCE_S = 0.02
"""Threads may wait for somebody dead."""


class Hunt:
    """What has been tried so far, and what went wrong."""

    def __init__(self, *, first_only: bool = False) -> None:
        self.programs = 0
        self.points = 0
        """Deaths that happened."""
        self.steps = 0
        """Tool bodies that ran."""
        self.faults: list[Trial] = []
        self._first_only = first_only
        self._hosts = 0

    def through(self, seeds: Iterable[int]) -> "Hunt":
        """Hunts through the programs of these seeds, on a loop of its own."""
        gc.freeze()
        gc.disable()  # between two hosts there is time enough for that
        try:
            with unlogged(), asyncio.Runner(loop_factory=virtual_loop) as runner:
                runner.run(self._hunt(seeds))
        finally:
            gc.enable()
            gc.unfreeze()
        return self

    def add(self, trials: Sequence[Trial]) -> None:
        """Counts trials that are over, and keeps those that went wrong."""
        self.points += sum(trial.universe.died for trial in trials)
        self.steps += sum(trial.universe.executed for trial in trials)
        self.faults.extend(trial for trial in trials if trial.wrong)
        for trial in trials:
            if not trial.wrong:
                trial.forget()

    @property
    def over(self) -> bool:
        return self._first_only and bool(self.faults)

    async def _hunt(self, seeds: Iterable[int]) -> None:
        for some in _batches([Trial(grown(seed), seed=seed) for seed in seeds], AT_ONCE):
            self.programs += len(some)
            await self._run(some)
            for trials in _batches([point for trial in some for point in every_point(trial)], AT_ONCE):
                if self.over:
                    return
                await self._run(trials)

    async def _run(self, trials: Sequence[Trial]) -> None:
        self._hosts += 1
        every = SNAPSHOTS[self._hosts % len(SNAPSHOTS)]
        await run(trials, snapshot_every=every)
        self.add(trials)
        gc.collect()


def virtual_loop() -> VirtualLoop:
    """A loop on which nobody waits for real, not even for the threads of the dead."""
    loop = VirtualLoop(thread_patience_s=THREAD_PATIENCE_S)
    loop.set_default_executor(ThreadPoolExecutor(THREADS))
    loop.set_exception_handler(lambda loop, context: None)  # tasks that a program left may fail unseen
    return loop


@contextmanager
def unlogged() -> Generator[None]:
    """What thousands of deaths have to say is neither rendered nor kept."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def _batches(trials: Sequence[Trial], size: int) -> Iterator[Sequence[Trial]]:
    for start in range(0, len(trials), size):
        yield trials[start : start + size]
