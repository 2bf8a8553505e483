"""The history checker: it finds each planted fault, and nothing in a history that is in order."""

import bisect
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from regrow.bench.history import Applied, Final, Finding, History, check
from regrow.bench.verbs import Effect, Operation, Reply, effects_of, fold

ALICE, BOB = "account/alice", "account/bob"


def operation(
    name: str,
    verb: str,
    argument: Any,
    at_s: tuple[float, float | None],
    reply: tuple[int, int] | None = None,
    to: str = ALICE,
) -> Operation:
    began_s, ended_s = at_s
    return Operation(
        id=name,
        client="c",
        actor=to,
        verb=verb,
        argument=argument,
        invoked_s=began_s,
        ended_s=ended_s,
        outcome="unknown" if ended_s is None else "acked",
        reply=Reply(*reply) if reply is not None else None,
    )


def final(actor: str, value: int, *applied: tuple[str, int]) -> Final:
    entries = tuple(Applied(*each) for each in applied)
    return Final(actor, value, entries, entries)


SOUND = History(
    operations=(
        operation("add", "add", 5, (1.0, 2.0), (5, 1)),
        operation("told", "add", 2, (2.5, 2.6)),
        operation("write", "write", 9, (3.0, 4.0), (7, 3)),
        operation("peek", "peek", None, (4.1, 4.2), (9, 3)),
        operation("read", "read", None, (5.0, 6.0), (9, 4)),
        operation("forward", "forward", ["bob", "bob"], (7.0, 8.0), (9, 5)),
        operation("again", "forward", ["bob"], (9.0, 9.1)),
        operation("fetch", "fetch", "bob", (10.0, 11.0), (4, 7)),
        operation("vanished", "fetch", "bob", (12.0, None)),
    ),
    finals=(
        final(ALICE, 9, ("add", 5), ("told", 7), ("write", 7), ("read", 9), ("forward", 9), ("again", 9), ("fetch", 4)),
        final(BOB, 5, ("forward>0", 1), ("forward>1", 2), ("again>0", 3), ("fetch?", 4), ("vanished?", 5)),
    ),
)  # fmt: skip
"""What alice was told to do, with a question of hers whose turn was not recorded; bob gets only what she sends."""


def kinds(findings: Iterable[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def holding(history: History, actor: str, change: Callable[[list[Applied]], object]) -> History:
    """The history in which this actor's list, and so its log, is another."""
    finals: list[Final] = []
    for each in history.finals:
        entries = list(each.applied)
        if each.actor == actor:
            change(entries)
        finals.append(replace(each, applied=tuple(entries), logged=tuple(entries)))
    return replace(history, finals=tuple(finals))


def saying(history: History, name: str, **fields: Any) -> History:
    """The history in which a client noted something else about one operation."""
    return replace(
        history, operations=tuple(replace(each, **fields) if each.id == name else each for each in history.operations)
    )


def swap(entries: list[Applied], left: int, right: int) -> None:
    entries[left], entries[right] = entries[right], entries[left]


def test_a_history_in_order_has_no_findings() -> None:
    assert check(SOUND) == ()


def test_an_acknowledged_tell_that_was_not_applied_is_lost() -> None:
    found = check(holding(SOUND, ALICE, lambda entries: entries.pop(1)))
    assert ("lost", ALICE, "told") in {(each.kind, each.actor, each.op) for each in found}


def test_everything_is_lost_of_an_actor_that_holds_nothing() -> None:
    found = check(replace(SOUND, finals=SOUND.finals[1:]))
    assert {each.op for each in found if each.kind == "lost"} == {
        "add",
        "told",
        "write",
        "read",
        "forward",
        "again",
        "fetch",
    }


def test_a_message_applied_twice_is_found() -> None:
    found = check(holding(SOUND, ALICE, lambda entries: entries.insert(2, Applied("told", 9))))
    assert ("doubled", "told") in {(each.kind, each.op) for each in found}


def test_a_message_applied_at_another_actor_is_misplaced() -> None:
    assert "misplaced" in kinds(check(holding(SOUND, BOB, lambda entries: entries.append(Applied("told", 7)))))


def test_a_message_that_nobody_sent_is_unfounded() -> None:
    assert "unfounded" in kinds(check(holding(SOUND, BOB, lambda entries: entries.append(Applied("ghost", 6)))))


def test_the_order_of_a_client_must_be_kept() -> None:
    found = check(holding(SOUND, ALICE, lambda entries: swap(entries, 0, 1)))
    assert [each.op for each in found if each.kind == "reordered"] == ["add"]


def test_operations_that_were_under_way_together_may_stand_in_any_order() -> None:
    together = History(
        operations=(operation("a", "add", 1, (1.0, 3.0)), operation("b", "add", 2, (2.0, 4.0))),
        finals=(final(ALICE, 3, ("b", 2), ("a", 3)),),
    )
    assert check(together) == ()


@pytest.mark.parametrize("applied", [True, False])
def test_an_unknown_operation_may_have_happened_or_not(applied: bool) -> None:
    unknown = operation("a", "add", 1, (1.0, None))
    state = final(ALICE, 1, ("a", 1)) if applied else final(ALICE, 0)
    assert check(History(operations=(unknown,), finals=(state,))) == ()


def test_an_unknown_operation_may_happen_long_after_its_client_gave_it_up() -> None:
    late = History(
        operations=(operation("a", "add", 1, (1.0, None)), operation("b", "add", 2, (5.0, 6.0))),
        finals=(final(ALICE, 3, ("b", 2), ("a", 3)),),
    )
    assert check(late) == ()


def test_an_operation_that_was_refused_must_not_have_happened() -> None:
    assert kinds(check(saying(SOUND, "told", outcome="refused", ended_s=None))) == {"refused"}


def test_a_reply_that_is_not_the_state_behind_its_operation_is_wrong() -> None:
    assert kinds(check(saying(SOUND, "write", reply=Reply(5, 3)))) == {"wrong_reply"}


def test_a_result_that_does_not_follow_from_what_was_before_is_wrong() -> None:
    changed = holding(SOUND, ALICE, lambda entries: entries.__setitem__(1, Applied("told", 8)))
    assert kinds(check(changed)) == {"wrong_result"}


def test_a_value_that_does_not_follow_from_the_list_is_wrong() -> None:
    alice, bob = SOUND.finals
    assert kinds(check(replace(SOUND, finals=(replace(alice, value=10), bob)))) == {"wrong_result"}


def test_an_answer_older_than_one_given_before_it_was_asked_is_stale() -> None:
    assert "stale_read" in kinds(check(saying(SOUND, "read", reply=Reply(7, 3))))


def test_a_query_that_shows_an_older_state_than_was_shown_before_is_stale() -> None:
    assert kinds(check(saying(SOUND, "peek", reply=Reply(7, 2)))) == {"stale_read"}


def test_a_query_may_be_as_old_as_is_allowed_and_no_older() -> None:
    stale = saying(SOUND, "peek", reply=Reply(7, 2))
    assert check(replace(stale, stale_s=0.2)) == ()
    assert kinds(check(replace(stale, stale_s=0.05))) == {"stale_read"}


def test_a_query_that_shows_what_no_version_was_is_wrong() -> None:
    assert kinds(check(saying(SOUND, "peek", reply=Reply(8, 3)))) == {"wrong_reply"}


def test_a_query_that_shows_what_began_later_is_early() -> None:
    assert "early_read" in kinds(check(saying(SOUND, "peek", reply=Reply(9, 4))))


def test_a_query_that_shows_what_was_never_recorded_is_early() -> None:
    assert "early_read" in kinds(check(saying(SOUND, "peek", reply=Reply(12, 8))))


def test_a_relay_that_never_came_is_lost() -> None:
    found = check(holding(SOUND, BOB, lambda entries: entries.pop(1)))
    assert ("lost", BOB, "forward>1") in {(each.kind, each.actor, each.op) for each in found}


def test_a_relay_that_came_twice_is_doubled() -> None:
    found = check(holding(SOUND, BOB, lambda entries: entries.append(Applied("forward>0", 6))))
    assert ("doubled", "forward>0") in {(each.kind, each.op) for each in found}


@pytest.mark.parametrize("left", [0, 1])
def test_relays_of_one_sender_must_come_in_its_order(left: int) -> None:
    def changed(entries: list[Applied]) -> None:
        names = [each.op for each in entries]
        names[left], names[left + 1] = names[left + 1], names[left]
        entries[:] = [Applied(name, at + 1) for at, name in enumerate(names)]

    assert kinds(check(holding(SOUND, BOB, changed))) == {"reordered"}


def test_a_relay_of_a_turn_that_is_not_recorded_is_unfounded() -> None:
    unknown = saying(SOUND, "again", outcome="unknown", ended_s=None)
    found = check(holding(unknown, ALICE, lambda entries: entries.pop(5)))
    assert ("unfounded", BOB, "again>0") in {(each.kind, each.actor, each.op) for each in found}


def test_a_question_inside_a_turn_must_have_been_answered_by_what_was_recorded() -> None:
    changed = holding(SOUND, ALICE, lambda entries: entries.__setitem__(6, Applied("fetch", 3)))
    assert "wrong_result" in kinds(check(changed))


def test_a_question_of_a_recorded_turn_that_never_came_is_lost() -> None:
    found = check(holding(SOUND, BOB, lambda entries: entries.pop(3)))
    assert ("lost", "fetch?") in {(each.kind, each.op) for each in found}


def test_an_actor_must_answer_what_its_log_says() -> None:
    alice, bob = SOUND.finals
    found = check(replace(SOUND, finals=(replace(alice, logged=alice.applied[:-1]), bob)))
    assert kinds(found) == {"log_differs"}


def test_a_dead_letter_and_mail_that_is_left_are_findings() -> None:
    assert kinds(check(replace(SOUND, dead_letters=("gone",), mail_left=3))) == {"dead_letter", "mail_left"}


# Any history


def simulated(seed: int, count: int) -> History:
    """What clients see of actors that do everything right: operations overlap, some outcomes stay unknown, turns send and ask."""
    draw = random.Random(seed)
    actors = [f"account/{number}" for number in range(3)]
    values = dict.fromkeys(actors, 0)
    lists: defaultdict[str, list[Applied]] = defaultdict(list)
    shown: defaultdict[str, list[tuple[float, Reply]]] = defaultdict(list)
    relays: list[Effect] = []
    operations: list[Operation] = []

    def apply(one: Operation | Effect, at_s: float, answered: int | None = None) -> Reply:
        values[one.actor], result = fold(one.verb, one.argument, values[one.actor])
        entry = Applied(one.id, result if result is not None else answered or 0)
        lists[one.actor].append(entry)
        shown[one.actor].append((at_s, Reply(values[one.actor], len(lists[one.actor]))))
        return Reply(entry.result, len(lists[one.actor]))

    for number in range(count):
        at_s = 1.0 + number  # when it is applied; it began before and ends after that
        at = draw.randrange(len(actors))
        verb = draw.choice(["add", "write", "read", "forward", "later", "peek", "fetch"])
        argument: Any = {
            "add": draw.randrange(1, 9),
            "write": draw.randrange(1, 9),
            "forward": [draw.choice("012")] * 2,
        }.get(verb)
        if verb == "fetch":
            argument = str((at + 1) % len(actors))
        known, ask = draw.random() < 0.8, draw.random() < 0.5 or verb == "peek"
        one = operation(
            f"o{number}", verb, argument, (at_s - draw.uniform(0, 3), at_s + draw.uniform(0, 3) if known else None),
            to=actors[at],
        )  # fmt: skip
        reply: Reply | None = None
        if verb == "peek":
            moment = at_s + draw.uniform(-0.4, 0.4)
            past = shown[one.actor]
            index = bisect.bisect([each for each, _ in past], moment)
            reply = past[index - 1][1] if index else Reply(0, 0)
            one = replace(
                one, invoked_s=min(one.invoked_s, moment), ended_s=max(one.ended_s or 0.0, moment), outcome="acked"
            )
        elif known or draw.random() < 0.5:
            answers = [apply(each, at_s) for each in effects_of(one) if each.asked]
            reply = apply(one, at_s, answers[0].result if answers else None)
            relays += [each for each in effects_of(one) if not each.asked]
        operations.append(replace(one, reply=reply if ask and one.outcome == "acked" else None))
        while relays and draw.random() < 0.6:
            apply(relays.pop(0), at_s)
    for each in relays:
        apply(each, 1.0 + count)
    finals = (Final(actor, values[actor], tuple(lists[actor]), tuple(lists[actor])) for actor in actors)
    return History(operations=tuple(operations), finals=tuple(finals))


HISTORIES = st.builds(simulated, st.integers(0, 1 << 30), st.integers(1, 40))


@given(HISTORIES)
def test_no_history_in_order_has_findings(history: History) -> None:
    assert check(history) == ()


def certain(history: History, actor: str, at: int) -> bool:
    """Whether the entry must be there: its client knows, or its turn is recorded."""
    name = next(each for each in history.finals if each.actor == actor).applied[at].op
    known = {each.id: each for each in history.operations}
    return known[name].outcome == "acked" if name in known else name[-1] != "?"


@given(HISTORIES, st.data())
def test_any_entry_that_is_dropped_is_missed(history: History, data: st.DataObject) -> None:
    places = [
        (each.actor, at)
        for each in history.finals
        for at in range(len(each.applied))
        if certain(history, each.actor, at)
    ]
    if places:
        actor, at = data.draw(st.sampled_from(places))
        assert "lost" in kinds(check(holding(history, actor, lambda entries: entries.pop(at))))


@given(HISTORIES, st.data())
def test_any_entry_that_is_there_twice_is_found(history: History, data: st.DataObject) -> None:
    places = [(each.actor, at) for each in history.finals for at in range(len(each.applied))]
    if places:
        actor, at = data.draw(st.sampled_from(places))
        to = data.draw(st.integers(at, 1 << 30))
        found = check(holding(history, actor, lambda entries: entries.insert(to, entries[at])))
        assert "doubled" in kinds(found)


@given(HISTORIES, st.data())
def test_any_two_entries_that_change_places_are_found(history: History, data: st.DataObject) -> None:
    """As long as their order is one that a client could know of."""
    known = {each.id: each for each in history.operations}

    def ordered(left: Applied, right: Applied) -> bool:
        first, second = known.get(left.op), known.get(right.op)
        if first is None or second is None:
            return False
        return first.ended_s is not None and first.ended_s < second.invoked_s

    places = [
        (each.actor, at, after)
        for each in history.finals
        for at in range(len(each.applied))
        for after in range(at + 1, len(each.applied))
        if ordered(each.applied[at], each.applied[after])
    ]
    if places:
        actor, at, after = data.draw(st.sampled_from(places))
        assert "reordered" in kinds(check(holding(history, actor, lambda entries: swap(entries, at, after))))


@given(HISTORIES, st.data())
def test_any_answer_that_is_another_is_found(history: History, data: st.DataObject) -> None:
    answered = [each for each in history.operations if each.reply is not None]
    if answered:
        one = data.draw(st.sampled_from(answered))
        assert one.reply is not None
        other = Reply(one.reply.result + data.draw(st.integers(1, 5)), one.reply.version)
        assert "wrong_reply" in kinds(check(saying(history, one.id, reply=other)))
