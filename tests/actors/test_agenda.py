"""What a schedule does next, decided over values: no due time runs twice, early, out of order, or is forgotten uncounted."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.actors.agenda import Agenda, Look, Timing, finish, fire, first
from regrow.actors.due import PASSED_MAX

MINUTE = 60_000
HOUR = 60 * MINUTE


def timing(cron: str = "* * * * *", **options: Any) -> Timing:
    given: dict[str, Any] = {"overlap": "skip", "missed": "once", "grace_ms": MINUTE, "run_ms": HOUR, **options}
    return Timing(cron=cron, tz="UTC", **given)


def test_a_schedule_begins_with_the_next_due_time_and_makes_nothing_up_before_that() -> None:
    assert first(timing(), 90_000) == Agenda(2 * MINUTE)


def test_what_is_never_due_again_needs_no_timer() -> None:
    assert Agenda().timer_ms(5) == 0
    assert fire(timing(), Agenda(), 5) == Look(Agenda())


def test_what_waits_is_looked_at_at_once() -> None:
    assert Agenda(2 * MINUTE, (MINUTE,)).timer_ms(5) == 5
    assert Agenda(2 * MINUTE).timer_ms(5) == 2 * MINUTE


def test_a_timer_that_fires_before_this_clock_says_so_is_believed() -> None:
    assert fire(timing(), Agenda(MINUTE), MINUTE - 5) == Look(Agenda(2 * MINUTE), (MINUTE,))


def test_of_what_was_missed_one_runs_or_none_or_all() -> None:
    late, now = Agenda(MINUTE), 3 * MINUTE + 5
    assert fire(timing(missed="once"), late, now) == Look(Agenda(4 * MINUTE), (3 * MINUTE,), 2)
    assert fire(timing(missed="skip"), late, now) == Look(Agenda(4 * MINUTE), (3 * MINUTE,), 2), "the last is on time"
    assert fire(timing(missed="skip", grace_ms=4), late, now) == Look(Agenda(4 * MINUTE), (), 3)
    everyone = (MINUTE, 2 * MINUTE, 3 * MINUTE)
    assert fire(timing(missed="all"), late, now) == Look(Agenda(4 * MINUTE, everyone[1:]), everyone[:1])
    assert fire(timing(missed="all", overlap="allow"), late, now) == Look(Agenda(4 * MINUTE), everyone)


def test_only_the_last_thousand_are_made_up_for() -> None:
    look = fire(timing(missed="all", overlap="allow"), Agenda(MINUTE), 5_000 * MINUTE)
    assert look.run == tuple(minute * MINUTE for minute in range(5_001 - PASSED_MAX, 5_001))


def test_a_queue_is_bounded_and_its_oldest_go_first() -> None:
    queue = timing(overlap="queue", run_ms=10_000 * MINUTE)
    full = Agenda(PASSED_MAX * MINUTE + MINUTE, tuple(minute * MINUTE for minute in range(1, PASSED_MAX + 1)))
    after = finish(queue, full, 0, full.due_ms + MINUTE)
    assert after.dropped == 2
    assert after.agenda.waiting[0] == 3 * MINUTE
    assert len(after.agenda.waiting) == PASSED_MAX


def test_what_came_due_during_a_run_is_left_out_or_waits() -> None:
    agenda, began, ended = Agenda(2 * MINUTE), MINUTE, 3 * MINUTE + 1
    assert finish(timing(), agenda, began, ended) == Look(Agenda(4 * MINUTE), (), 2)
    waits = Look(Agenda(4 * MINUTE, (2 * MINUTE, 3 * MINUTE)))
    assert finish(timing(overlap="queue"), agenda, began, ended) == waits


def test_what_came_due_after_a_run_was_given_up_was_missed() -> None:
    agenda = Agenda(2 * MINUTE)
    assert finish(timing(run_ms=90_000), agenda, MINUTE, 9 * MINUTE) == Look(Agenda(3 * MINUTE), (), 1)


def test_a_clock_that_goes_back_makes_nothing_due_again() -> None:
    assert finish(timing(), Agenda(9 * MINUTE), 8 * MINUTE, MINUTE) == Look(Agenda(9 * MINUTE))


CRONS = st.sampled_from(["* * * * *", "*/7 * * * *", "13 * * * *", "0 0 29 2 *", "* 3 * * *"])
POLICIES = st.fixed_dictionaries(
    {
        "overlap": st.sampled_from(["skip", "queue", "allow"]),
        "missed": st.sampled_from(["once", "skip", "all"]),
        "grace_ms": st.integers(0, 5 * MINUTE),
        "run_ms": st.integers(1, 3 * HOUR),
    }
)
PAUSES = st.lists(st.tuples(st.integers(-MINUTE, 4 * HOUR), st.integers(0, 4 * HOUR)), max_size=20)


@given(CRONS, POLICIES, PAUSES)
@settings(deadline=None)
def test_each_due_time_runs_once_or_waits_or_is_counted_as_dropped(
    cron: str, policies: dict[str, Any], pauses: list[tuple[int, int]]
) -> None:
    plan = timing(cron, **policies)
    now = 0
    agenda = first(plan, now)
    begin = agenda.due_ms
    run: list[int] = []
    dropped = 0
    for late, took in pauses:
        now = max(now, agenda.timer_ms(now) + late)
        look = fire(plan, agenda, now)
        assert look.agenda.due_ms > now
        run += look.run
        dropped += look.dropped
        agenda = look.agenda
        if look.run and plan.overlap != "allow":
            began, now = max(now, *look.run), now + took
            after = finish(plan, agenda, began, now)
            dropped += after.dropped
            agenda = after.agenda
        assert all(each <= max(now, *look.run) for each in (*look.run, *agenda.waiting))
    assert run == sorted(set(run))
    assert not {*run} & {*agenda.waiting}
    passed = fire(timing(cron, missed="all", overlap="allow"), Agenda(begin), agenda.due_ms - 1).run
    if agenda.due_ms == begin:
        passed = ()
    if len(passed) < PASSED_MAX:
        assert {*run} | {*agenda.waiting} <= {*passed}
        assert len(run) + len(agenda.waiting) + dropped == len(passed)
