"""Which turns are counted as begun before, after a process has died."""

import msgspec

from regrow.actors.records import Letter, Type
from regrow.actors.suspicion import Suspicion
from regrow.bus import Box


def letter(box: Box = "in", what: Type = "") -> Letter:
    return Letter(box, 1, "x", msgspec.Raw(b"{}"), type=what)


def test_the_first_suspect_letter_of_each_lane_counts_and_no_later_one() -> None:
    suspicion = Suspicion()
    suspicion.hear()
    for each in (letter(), letter("act"), letter("act", "timer")):
        assert suspicion.start_of(each, suspect=True) == 2
        assert suspicion.start_of(each, suspect=True) == 1


def test_what_came_after_the_death_clears_its_lane() -> None:
    suspicion = Suspicion()
    assert suspicion.start_of(letter(), suspect=False) == 1
    assert suspicion.start_of(letter(), suspect=True) == 1


def test_an_ask_of_the_own_process_says_nothing_of_its_lane() -> None:
    suspicion = Suspicion()
    assert suspicion.start_of(letter(what="direct"), suspect=False) == 1
    assert suspicion.start_of(letter(), suspect=True) == 2


def test_an_open_turn_takes_the_blame_alone_and_once() -> None:
    suspicion = Suspicion()
    suspicion.hear()
    assert suspicion.start_of_open(2) == 3
    assert suspicion.start_of(letter(), suspect=True) == 1
    assert suspicion.start_of_open(3) == 1
    assert Suspicion().start_of_open(2) == 1


def test_suspect_mail_that_comes_after_the_first_letter_blames_no_open_turn() -> None:
    suspicion = Suspicion()
    suspicion.start_of(letter(), suspect=False)
    suspicion.hear()
    assert suspicion.start_of_open(2) == 1
