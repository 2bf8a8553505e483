import json

import pytest

from regrow.supervisor.exits import (
    Crashed,
    Exit,
    Exited,
    Hung,
    Killed,
    NodeLost,
    NoProcess,
    Normal,
    OutOfMemory,
    Poison,
    Preempted,
    Shutdown,
    TimedOut,
)
from regrow.workers import Begun, ChildError, cause_from_json, cause_to_json
from regrow.workers.ending import Ending
from regrow.workers.environment import TEXT_MAX, begun, named

CAUSES: list[Exit] = [
    Normal(),
    Shutdown(),
    Crashed(ChildError("ValueError", "no such route")),
    Exited(3),
    Killed(9),
    Hung(2.5),
    OutOfMemory(1000, 1200),
    OutOfMemory(1000, None),
    TimedOut(2.5),
    Preempted(30.0),
    NodeLost("eu-1"),
    Poison(5),
    NoProcess(),
]


@pytest.mark.parametrize("cause", CAUSES, ids=repr)
def test_every_cause_survives_the_way_through_the_environment(cause: Exit) -> None:
    assert cause_from_json(cause_to_json(cause)) == cause


def test_a_cause_is_one_json_object_that_any_language_reads() -> None:
    assert json.loads(cause_to_json(Killed(9))) == {"cause": "Killed", "signal": 9}
    crash = {"cause": "Crashed", "error": "KeyError", "message": "'a'"}
    assert json.loads(cause_to_json(Crashed(KeyError("a")))) == crash


def test_the_text_of_an_error_is_bounded() -> None:
    assert named(ValueError("x" * 5000)) == ("ValueError", "x" * TEXT_MAX)


def test_the_first_incarnation_is_told_of_nothing() -> None:
    def ready() -> None: ...

    assert begun({}, ready) == Begun(None, 0, ready)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("768 0 0 0", Exited(3)),
        ("9 0 0 0", Killed(9)),
        ("139 0 0 0", Killed(11)),  # with a core
        ("9 1200 1000 0", OutOfMemory(1000, 1200)),
        ("256 0 1000 0", OutOfMemory(1000, None)),
    ],
)
def test_the_guards_words_name_a_cause(words: str, cause: Exit) -> None:
    assert Ending.parse(words.split()).cause() == cause


def test_errors_of_children_are_values() -> None:
    assert str(ChildError("ValueError", "no")) == "ValueError: no"
    assert str(ChildError("ValueError", "")) == "ValueError"
    assert len({ChildError("A", "x"), ChildError("A", "x"), ChildError("A", "y")}) == 2
