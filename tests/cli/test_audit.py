import itertools

import msgspec
import pytest

from regrow.actors import Failure
from regrow.actors.audit import Audit, Recorded, compare, recorded_steps
from regrow.actors.records import Begun, Cause, Entry, Failed, Letter, Outcome, Record, Step, Steps, Turn
from regrow.actors.witness import Sighting
from regrow.bus import Stored, encode

ACTOR = "researcher/1"


def seen(*times_ns: int, step: str = "s") -> list[Sighting]:
    return [Sighting(ACTOR, step, 1, time_ns) for time_ns in times_ns]


def recorded(*turns: tuple[int, int], step: str = "s") -> dict[tuple[str, str], list[Recorded]]:
    return {(ACTOR, step): [Recorded(*turn) for turn in turns]}


@pytest.mark.parametrize(
    ("times_ns", "turns", "again", "in_flight"),
    [
        ([], [(0, 10)], 0, 0),
        ([5], [(0, 10)], 0, 0),
        ([5, 8], [(0, 10)], 0, 1),  # killed between the first and its record
        ([5, 10], [(0, 10)], 0, 1),
        ([5, 11], [(0, 10)], 1, 0),  # what must never be
        ([5, 8, 11, 12], [(0, 10)], 2, 1),
        ([5], [], 0, 0),
        ([5, 6, 7], [], 0, 2),  # never recorded: always in flight
        ([5, 25], [(0, 10), (20, 30)], 0, 0),  # asked once more in a later turn
        ([5, 15, 25], [(0, 10), (20, 30)], 1, 0),  # after its record, in the same turn
        ([5, 25, 26, 31], [(0, 10), (20, 30)], 1, 1),
        ([5, 25], [(20, 30)], 0, 0),  # a turn that was given up, and one that was not
    ],
)
def test_executions_are_held_against_the_records(
    times_ns: list[int], turns: list[tuple[int, int]], again: int, in_flight: int
) -> None:
    for order in itertools.permutations(times_ns):
        found = compare(seen(*order), recorded(*turns) if turns else {})
        assert found == Audit(len(times_ns), steps_executed_again=again, in_flight_repeated=in_flight)


def test_steps_of_different_actors_and_keys_are_not_mixed_up() -> None:
    sightings = [*seen(5), *seen(15, step="t"), Sighting("researcher/2", "s", 1, 15)]
    assert compare(sightings, recorded((0, 10))) == Audit(3, 0, 0)


def letter() -> Letter:
    return Letter("in", 1, "id", msgspec.Raw(b"{}"))


def steps(*keys: str) -> Steps:
    return Steps(tuple(Step(key, "tool", msgspec.Raw(b"{}")) for key in keys))


def turn() -> Turn:
    return Turn(Cause("in", "id"), 1, 0, Outcome())


def log(*records: tuple[int, list[Entry]]) -> list[Stored]:
    return [
        Stored(sequence, time_ns, encode(Record(1, f"r.{sequence}", tuple(entries))))
        for sequence, (time_ns, entries) in enumerate(records, start=1)
    ]


def test_a_step_counts_from_its_first_record_in_each_turn() -> None:
    records = log(
        (10, [Begun(letter()), steps("a", "b")]),
        (20, [steps("a"), turn()]),
        (30, [Begun(letter()), steps("a")]),
        (40, [turn()]),
    )
    assert recorded_steps(ACTOR, records) == {
        (ACTOR, "a"): [Recorded(0, 10), Recorded(20, 30)],
        (ACTOR, "b"): [Recorded(0, 10)],
    }


def test_a_step_whose_failure_ended_an_attempt_is_expected_again() -> None:
    ended = Failed(letter(), Failure("defect", 500, "it broke"), 1, again=("a",))
    records = log((10, [Begun(letter()), steps("a", "b")]), (20, [ended]), (30, [steps("a", "b")]), (40, [turn()]))
    assert recorded_steps(ACTOR, records) == {
        (ACTOR, "a"): [Recorded(0, 10), Recorded(20, 30)],
        (ACTOR, "b"): [Recorded(0, 10)],
    }
