"""The witness: a file outside the runtime to which every tool body appends one line when it really runs.

The log says what was recorded; the witness says what was executed. Comparing the two shows whether anything ran again after
its outcome was recorded. Switched on by ``REGROW_WITNESS``, the path of the file.
"""

import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

from regrow.actors.step import StepContext, current_step

WITNESS = "REGROW_WITNESS"
"""The environment variable that names the file."""


class Sighting(msgspec.Struct, frozen=True):
    """One execution of a tool's body."""

    actor: str
    step: str
    pid: int
    time_ns: int


def witness() -> None:
    """Appends one line for the running step; one write to a file opened for appending is not torn by a kill."""
    path = os.environ.get(WITNESS)
    running = current_step()
    if path and running is not None:
        append_sighting(path, running)


def append_sighting(path: str, step: StepContext) -> None:
    """Appends one line for this step."""
    line = msgspec.json.encode(Sighting(step.actor, step.key, os.getpid(), time.time_ns()))
    os.write(_opened(path), line + b"\n")


def sightings(path: Path) -> Iterator[Sighting]:
    """Every execution that was seen, in the order of the file."""
    if path.exists():
        with path.open("rb") as lines:
            for line in lines:
                yield msgspec.json.decode(line, type=Sighting)


@cache
def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
