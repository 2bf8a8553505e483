"""The audit: what the witness saw executed against what the logs say was recorded, by clocks of the same machine."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from regrow.actors.records import Failed, Record, Steps, Turn
from regrow.actors.witness import Sighting, sightings
from regrow.bus import Address, Bus, Stored, decode

READS_AT_ONCE = 32

StepId = tuple[str, str]
"""Actor and step key, which is unique within one turn of the actor."""


class Recorded(msgspec.Struct, frozen=True):
    """A step as one turn has recorded it: executions after the turn before and before the record are the turn's own."""

    after_ns: int
    stored_ns: int


class Audit(msgspec.Struct, frozen=True):
    """What the comparison shows."""

    steps_run: int
    """Executions that the witness saw."""
    steps_executed_again: int
    """Executions that began after the server had stored the step's outcome: must be 0."""
    in_flight_repeated: int
    """Executions of a step that had run before without its outcome being recorded: what was open at a kill."""


def compare(seen: Iterable[Sighting], recorded: Mapping[StepId, Sequence[Recorded]]) -> Audit:
    """Counts executions, repetitions after a record, and repetitions without one. Pure."""
    times: defaultdict[StepId, list[int]] = defaultdict(list)
    for sighting in seen:
        times[sighting.actor, sighting.step].append(sighting.time_ns)
    again = in_flight = total = 0
    for step, executions in times.items():
        records = recorded.get(step, ())
        total += len(executions)
        allowed: defaultdict[Recorded | None, int] = defaultdict(int)
        for time_ns in executions:
            own = next((each for each in records if each.after_ns < time_ns <= each.stored_ns), None)
            if own is None and any(each.stored_ns < time_ns for each in records):
                again += 1
            else:
                allowed[own] += 1
        in_flight += sum(count - 1 for count in allowed.values())
    return Audit(total, again, in_flight)


async def audit(bus: Bus, witness: Path) -> Audit:
    """The comparison for a whole run. Only logs of actors with a step that was seen more than once need to be read."""
    seen = list(sightings(witness))
    counted: defaultdict[StepId, int] = defaultdict(int)
    for sighting in seen:
        counted[sighting.actor, sighting.step] += 1
    actors = {actor for (actor, _), times in counted.items() if times > 1}
    limit = asyncio.Semaphore(READS_AT_ONCE)
    recorded: dict[StepId, list[Recorded]] = {}

    async def read(actor: str) -> None:
        kind, _, key = actor.partition("/")
        async with limit:
            recorded.update(recorded_steps(actor, await bus.log.read(Address(kind, key))))

    async with asyncio.TaskGroup() as reads:
        for actor in actors:
            reads.create_task(read(actor))
    return compare(seen, recorded)


def recorded_steps(actor: str, records: Iterable[Stored]) -> dict[StepId, list[Recorded]]:
    """When the server first stored the outcome of each step of an actor, turn by turn, in nanoseconds since 1970.

    A failed step that ended an attempt is to run again in the next one, as the log says: that counts as a turn of its own.
    """
    found: defaultdict[StepId, list[Recorded]] = defaultdict(list)
    turn_before_ns = 0
    failed_ns: dict[str, int] = {}
    for stored in records:
        for entry in decode(stored.data, Record, "record").entries:
            match entry:
                case Turn():
                    turn_before_ns = stored.time_ns
                    failed_ns = {}
                case Failed():
                    failed_ns |= dict.fromkeys(entry.again, stored.time_ns)
                case Steps(steps):
                    for step in steps:
                        after_ns = failed_ns.get(step.key, turn_before_ns)
                        earlier = found[actor, step.key]
                        if not earlier or earlier[-1].after_ns != after_ns:
                            earlier.append(Recorded(after_ns, stored.time_ns))
                case _:
                    pass
    return dict(found)
