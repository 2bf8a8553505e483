"""The audit: what the witness saw executed against what the logs say was recorded, by clocks of the same machine."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from regrow.actors.records import Record, Steps
from regrow.agents.witness import Sighting, sightings
from regrow.bus import Address, Bus, Stored, decode

READS_AT_ONCE = 32

StepId = tuple[str, str]
"""Actor and step key."""


class Audit(msgspec.Struct, frozen=True):
    """What the comparison shows."""

    steps_run: int
    """Executions that the witness saw."""
    steps_executed_again: int
    """Executions that began after the server had stored the step's outcome: must be 0."""
    in_flight_repeated: int
    """Executions of a step that had run before without its outcome being recorded: what was open at a kill."""


def compare(seen: Iterable[Sighting], recorded_ns: dict[StepId, int]) -> Audit:
    """Counts executions, repetitions after a record, and repetitions without one. Pure."""
    times: defaultdict[StepId, list[int]] = defaultdict(list)
    for sighting in seen:
        times[sighting.actor, sighting.step].append(sighting.time_ns)
    again = in_flight = total = 0
    for step, executions in times.items():
        total += len(executions)
        stored_ns = recorded_ns.get(step)
        after = [each for each in executions if stored_ns is not None and each > stored_ns]
        again += len(after)
        in_flight += len(executions) - len(after) - 1 if len(executions) > len(after) else 0
    return Audit(total, again, in_flight)


async def audit(bus: Bus, witness: Path) -> Audit:
    """The comparison for a whole run. Only logs of actors with a step that was seen more than once need to be read."""
    seen = list(sightings(witness))
    counted: defaultdict[StepId, int] = defaultdict(int)
    for sighting in seen:
        counted[sighting.actor, sighting.step] += 1
    actors = {actor for (actor, _), times in counted.items() if times > 1}
    limit = asyncio.Semaphore(READS_AT_ONCE)
    recorded: dict[StepId, int] = {}

    async def read(actor: str) -> None:
        kind, _, key = actor.partition("/")
        async with limit:
            recorded.update(recorded_steps(actor, await bus.log.read(Address(kind, key))))

    async with asyncio.TaskGroup() as reads:
        for actor in actors:
            reads.create_task(read(actor))
    return compare(seen, recorded)


def recorded_steps(actor: str, records: list[Stored]) -> dict[StepId, int]:
    """When the server stored the outcome of each step of an actor, in nanoseconds since 1970."""
    times: dict[StepId, int] = {}
    for stored in records:
        for entry in decode(stored.data, Record, "record").entries:
            if isinstance(entry, Steps):
                for step in entry.steps:
                    times.setdefault((actor, step.key), stored.time_ns)
    return times
