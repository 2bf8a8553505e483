"""Random programs on the bus in memory die at every journal write, and come to what they would have come to without.

The whole hunt is ``bench/random_programs.py``; here are as many programs as there is time for, and three bugs that must be found.
"""

import asyncio
import re

import pytest
from tests.property.growing import grown
from tests.property.hunt import Hunt, unlogged, virtual_loop
from tests.property.plants import PLANTS
from tests.property.programs import Call, Gather, Node, Race, Sequence, Ticks
from tests.property.shrink import is_sound, smaller
from tests.property.trial import Trial, run

SEEDS = range(30, 50)
SHOWS = {
    "keys": "Drift|replay: .* was recorded|after the death",
    "order": "replay: .* was recorded|after the death",
    "early": "shown before it was recorded",
}
"""How each plant shows itself; that it merely breaks something else would prove nothing."""


def said(faults: list[Trial]) -> str:
    return "\n".join(f"{trial}: {what}" for trial in faults[:5] for what in trial.wrong[:3])


def test_no_recorded_step_runs_again_and_the_same_racer_wins_wherever_a_program_dies() -> None:
    hunt = Hunt().through(SEEDS)
    assert not hunt.faults, said(hunt.faults)
    assert hunt.points > 20 * len(SEEDS)


def test_what_an_attempt_before_has_found_out_passes_when_everybody_has_come_as_far_as_in_a_replay() -> None:
    hunt = Hunt(first_only=True).through([27])
    assert not hunt.faults, said(hunt.faults)


def test_an_outcome_leaves_deeper_tasks_as_long_to_ask_for_theirs_as_any_other() -> None:
    first = Race((Call("look", 1, 12), nested(2, Call("work", 11, 40))), "cancel")
    second = Race((nested(5, Call("work", 12, 40)), Call("look", 0, 12)), "cancel")
    trial = Trial(Sequence((first, second, Call("work", 13))))
    with unlogged(), asyncio.Runner(loop_factory=virtual_loop) as runner:
        runner.run(run([trial]))
    assert not trial.wrong, trial.wrong


def nested(depth: int, part: Node) -> Node:
    """A part in so many gathers, one in the other."""
    for _ in range(depth):
        part = Gather((part,))
    return part


@pytest.mark.parametrize("first", [1_000, 2_000, 3_000])
@pytest.mark.parametrize(("plant", "shows"), SHOWS.items())
def test_a_planted_bug_is_found_every_time(plant: str, shows: str, first: int) -> None:
    with PLANTS[plant]():
        hunt = Hunt(first_only=True).through(range(first, first + 20))
    assert re.search(shows, said(hunt.faults)), said(hunt.faults)


def test_every_plant_has_a_test() -> None:
    assert SHOWS.keys() == PLANTS.keys()


def test_a_seed_grows_the_same_program_each_time() -> None:
    assert [grown(seed) for seed in SEEDS] == [grown(seed) for seed in SEEDS]
    assert len({repr(grown(seed)) for seed in SEEDS}) == len(SEEDS)


def test_every_grown_program_is_sound() -> None:
    assert all(is_sound(grown(seed)) for seed in range(500))
    assert all(is_sound(grown(seed, real_clock=True)) for seed in range(500))


def test_a_program_can_be_made_smaller_to_a_single_call() -> None:
    program = grown(1)
    while (less := next((each for each in smaller(program) if is_sound(each)), None)) is not None:
        program = less
    assert not isinstance(program, Sequence | Ticks)
    assert isinstance(program, Call) or not list(smaller(program))
