"""What a log amounts to: pure folding, from the first record or from a snapshot after any of them."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.actors import Actor, ActorError, Event, event, image
from regrow.actors.errors import failure
from regrow.actors.fold import Fold, fold, state_json
from regrow.actors.image import Answer, Image, Open, Outbox, PendingAsk
from regrow.actors.records import (
    Asked,
    Begun,
    Cancelled,
    Cause,
    Entry,
    Failed,
    Letter,
    Mark,
    Outcome,
    Position,
    Record,
    Send,
    SendFailed,
    Step,
    Steps,
    TimerSet,
    Tombstone,
    Turn,
    Type,
)
from regrow.bus import Box, Stored, Undecodable, encode


class Added(Event):
    amount: int


class Counter(Actor):
    total: int = 0
    seen: list[int] = []

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount
        self.seen.append(fact.amount)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


def letter(sequence: int, message_id: str = "", box: Box = "in", what: Type = "", timer: str = "") -> Letter:
    return Letter(box, sequence, message_id or f"id{sequence}", raw({}), type=what, timer=timer)


def relay(sequence: int, sender: str, mark: tuple[int, int], sent_ms: int = 0, what: Type = "") -> Letter:
    return Letter("act", sequence, f"e.1.{mark[0]}.{mark[1]}", raw({}), "", sender, mark, sent_ms, type=what)


def turn(
    taken: Letter,
    amount: int = 1,
    value: int = 0,
    sends: tuple[Send, ...] = (),
    timers: tuple[TimerSet, ...] = (),
    at: Position | None = None,
) -> Turn:
    position = at or Image().position_after(taken)
    facts = (raw(Added(amount=amount)),)
    reply = Outcome(raw(value))
    return Turn(
        Cause.of(taken), position.in_seq, position.act_seq, reply, facts, sends, timers, position.ahead, at_ms=77
    )


def asked(key: str, to: str = "b") -> Asked:
    return Asked(key, ("k", to), raw({}), 50, 60)


def step(key: str) -> Step:
    return Step(key, "work", raw({}), Outcome(raw(1)))


def folded(*entries: Entry) -> Fold:
    made = Fold(Counter, "a")
    for sequence, entry in enumerate(entries, 1):
        made.advance((entry,), sequence)
    return made


def stored(sequence: int, *entries: Entry, version: int = 1) -> Stored:
    return Stored(sequence, 0, encode(Record(version, "r", entries)))


def test_a_turn_applies_its_events_and_moves_the_position() -> None:
    done = fold(Counter, "a", [stored(7, turn(letter(3), 2)), stored(9, turn(letter(4), 5))])
    assert state_json(done.actor) == b'{"total":7,"seen":[2,5]}'
    assert (done.image.in_seq, done.image.act_seq, done.sequence, done.image.records) == (4, 0, 9, 2)
    assert done.actor.key == "a"


def test_a_record_of_another_version_is_refused() -> None:
    with pytest.raises(ActorError, match="reads records of version 1, not 2; run the build that wrote them"):
        fold(Counter, "a", [stored(1, turn(letter(1)), version=2)])


def test_an_event_that_this_build_does_not_know_is_refused() -> None:
    unknown = msgspec.structs.replace(turn(letter(1)), events=(raw({"type": "Later"}),))
    with pytest.raises(Undecodable, match="event of counter"):
        fold(Counter, "a", [stored(1, unknown)])


def test_a_turn_is_open_from_its_beginning_to_its_record() -> None:
    begun = folded(
        Begun(letter(1)), Steps((step("a"), step("b"))), Cancelled(msgspec.structs.replace(step("c"), cancelled=True))
    )
    assert begun.image.opened is not None
    assert [each.key for each in begun.image.opened.steps] == ["a", "b", "c"]
    begun.advance((turn(letter(1)),), 4)
    assert begun.image.opened is None


def test_a_beginning_that_is_recorded_twice_keeps_the_steps() -> None:
    begun = folded(Begun(letter(1)), Steps((step("a"),)), Begun(letter(1)))
    assert begun.image.opened == Open(letter(1), [step("a")])
    begun.advance((Begun(letter(2)),), 4)
    assert begun.image.opened == Open(letter(2))


def test_steps_without_a_beginning_are_nobodys() -> None:
    assert folded(Steps((step("a"),)), Cancelled(step("b"))).image.opened is None


def test_failed_attempts_keep_the_steps_and_the_cause() -> None:
    cause = failure("defect", "broken")
    failed = folded(Begun(letter(1)), Steps((step("a"),)), Failed(letter(1), cause, 1), Failed(letter(1), cause, 2))
    assert failed.image.opened == Open(letter(1), kept=[step("a")], attempts=2, failure=cause)
    assert folded(Failed(letter(1), cause, 1)).image.opened == Open(letter(1), attempts=1, failure=cause)


def test_another_attempt_runs_what_ended_the_last_one_and_what_was_cancelled_before_it_had_an_outcome() -> None:
    cancelled = msgspec.structs.replace(step("c"), cancelled=True)
    cause = failure("defect", "broken")
    failed = folded(
        Begun(letter(1)),
        Steps((step("a"), step("b"), step("c"), step("d"))),
        Cancelled(msgspec.structs.replace(cancelled, key="e")),
        Cancelled(cancelled),
        Failed(letter(1), cause, 1, ("b",)),
    )
    assert failed.image.opened is not None
    assert [each.key for each in failed.image.opened.kept] == ["a", "c", "d"]
    failed.advance((Steps((step("b"), step("e"))),), 5)
    assert failed.image.opened.steps == [step("b"), step("e")]
    failed.advance((Failed(letter(1), cause, 2, ("d",)),), 6)
    assert [each.key for each in failed.image.opened.kept] == ["a", "c", "b", "e"]


def test_a_letter_is_taken_when_it_lies_behind_the_position_of_its_box() -> None:
    done = folded(turn(letter(5)))
    assert done.image.taken(letter(5))
    assert done.image.taken(letter(4))
    assert not done.image.taken(letter(6))
    assert not done.image.taken(letter(4, box="act"))
    assert done.image.position_after(letter(6)) == Position(6, 0)
    assert done.image.position_after(letter(2, box="act")) == Position(5, 2)


def test_an_ask_of_the_own_process_is_nowhere_and_moves_nothing_until_it_is_promoted() -> None:
    direct = letter(0, "mine", what="direct")
    done = folded(turn(direct, value=3, at=Position(4, 2)))
    assert done.image.position == Position(4, 2)
    assert done.image.taken(direct), "asked again through the mailbox, it is known by its id"
    assert done.image.reply_to(letter(9, "mine")) == Outcome(raw(3))
    assert not done.image.taken(letter(0, "other", what="direct"))


def test_a_promoted_ask_overtakes_and_is_remembered_until_the_position_has_passed_it() -> None:
    first, second = letter(7, "p7", box="act", what="promoted"), letter(9, "p9", box="act", what="promoted")
    done = folded(turn(letter(3, box="act")))
    done.advance((turn(first, at=done.image.position_after(first)),), 2)
    assert done.image.position == Position(0, 3, (7,))
    assert done.image.taken(first)
    assert not done.image.taken(letter(5, box="act")), "what was waiting still waits"
    assert done.image.taken(letter(20, "p7")), "the same ask through the outside mailbox"
    assert done.image.position_after(second) == Position(0, 3, (7, 9))
    assert done.image.position_after(letter(8, box="act")) == Position(0, 8)
    assert done.image.position_after(second, passed=7) == Position(0, 7, (9,))
    assert done.image.position_after(second, passed=9) == Position(0, 9)


def test_a_repeated_message_from_outside_is_known_by_its_id() -> None:
    done = folded(turn(letter(5, "mine"), value=3))
    assert done.image.taken(letter(9, "mine"))
    assert done.image.reply_to(letter(9, "mine")) == Outcome(raw(3))
    assert not done.image.taken(letter(9, "mine", box="act")), "the runtime's own ids are others"
    assert done.image.reply_to(letter(9, "other")) is None


def test_a_relay_is_known_by_its_senders_mark() -> None:
    sent = relay(5, "k/x", (7, 0))
    done = folded(turn(sent))
    assert done.image.taken(relay(9, "k/x", (7, 0)))
    assert done.image.taken(relay(9, "k/x", (6, 5)))
    assert not done.image.taken(relay(9, "k/x", (7, 1)))
    assert not done.image.taken(relay(9, "k/y", (1, 0)))
    assert done.image.replies == {}


def test_a_mark_is_kept_for_a_day_and_an_older_relay_without_one_may_be_a_repetition() -> None:
    day = image.MARKS_KEPT_MS
    done = folded(
        turn(relay(1, "k/x", (1, 0), 1_000)), turn(relay(2, "k/y", (1, 0), 2_000)), turn(relay(3, "k/x", (2, 0), 3_000))
    )
    assert list(done.image.marks) == ["k/y", "k/x"], "the longest silent one first"
    done.advance((turn(relay(4, "k/z", (1, 0), day + 2_001)),), 4)
    assert done.image.marks == {"k/x": Mark(2, 0, 3_000), "k/z": Mark(1, 0, day + 2_001)}
    assert done.image.may_repeat(relay(5, "k/y", (1, 0), 2_000), day + 2_001)
    assert not done.image.may_repeat(relay(5, "k/y", (9, 0), 2_001), day + 2_001)
    assert not done.image.may_repeat(relay(5, "k/x", (3, 0), 0), day + 2_001), "its mark is known"
    assert not done.image.may_repeat(letter(9), day + 2_001)


def test_the_reply_to_another_actors_ask_goes_out_and_is_not_kept() -> None:
    question = relay(4, "k=2Fx", (7, 1), what="ask")
    done = folded(turn(question, value=2))
    assert done.image.outbox == Outbox(1, 0, 77, answer=Answer("k=2Fx", "e.1.7.1", Outcome(raw(2))))
    assert done.image.taken(question)
    assert done.image.reply_to(question) is None


def test_an_ask_is_pending_from_its_record_to_its_outcome() -> None:
    begun = folded(Begun(letter(1)))
    begun.advance((asked("a"), asked("b", "c")), 2)
    assert begun.image.opened is not None
    assert begun.image.opened.asks == {"a": PendingAsk(asked("a"), 2, 0), "b": PendingAsk(asked("b", "c"), 2, 1)}
    assert begun.image.ask_of((2, 1)) == PendingAsk(asked("b", "c"), 2, 1)
    begun.advance((Steps((step("a"),)),), 3)
    assert begun.image.ask_of((2, 0)) is None
    begun.advance((Failed(letter(1), failure("defect", "broken"), 1),), 4)
    assert begun.image.ask_of((2, 1)) is not None, "a failed turn does not un-ask"
    begun.advance((Cancelled(msgspec.structs.replace(step("b"), cancelled=True)),), 5)
    assert begun.image.ask_of((2, 1)) is None
    assert Image().ask_of((2, 1)) is None


def test_the_sends_of_a_record_are_numbered_behind_its_asks() -> None:
    send = Send("k", "b", raw({}))
    begun = folded(Begun(letter(1)))
    begun.advance((asked("a"), turn(letter(1), sends=(send,))), 2)
    assert begun.image.outbox == Outbox(2, 1, 77, (send,))


def test_starts_are_counted_until_the_turn_makes_progress() -> None:
    begun = folded(Begun(letter(1)), Begun(letter(1), 2), Begun(letter(1), 3))
    assert begun.image.opened is not None
    assert begun.image.opened.starts == 3
    begun.advance((Steps((step("a"),)),), 4)
    assert begun.image.opened.starts == 1


def test_a_timer_is_pending_until_it_fires_or_is_replaced_or_cancelled() -> None:
    once, twice = TimerSet("once", 100, raw({})), TimerSet("twice", 200, raw({}))
    done = folded(turn(letter(1), timers=(once, twice)))
    assert done.image.timers == {"once": ("1-0", 100), "twice": ("1-1", 200)}
    fired = letter(5, "1-0", box="act", what="timer", timer="once")
    assert not done.image.taken(fired)
    done.advance((turn(letter(2), timers=(TimerSet("twice", 300, raw({})),)),), 2)
    assert done.image.timers["twice"] == ("2-0", 300)
    assert done.image.outbox is not None
    assert done.image.outbox.over == ("1-1",), "the earlier one is taken off the server"
    assert done.image.taken(letter(6, "1-1", box="act", what="timer", timer="twice"))
    before = done.image.position
    done.advance((turn(fired, at=done.image.position_after(fired)),), 3)
    assert done.image.position == before, "it overtook what was waiting"
    assert done.image.taken(fired), "fired twice, it is handled once"
    done.advance((turn(letter(3), timers=(TimerSet("twice"), TimerSet("never"))),), 4)
    assert done.image.timers == {}
    assert done.image.outbox == Outbox(4, 0, 77, timers=(TimerSet("twice"), TimerSet("never")), over=("2-0",))


def test_a_timer_may_set_itself_again_while_it_is_handled() -> None:
    again = TimerSet("again", 100, raw({}))
    done = folded(turn(letter(1), timers=(again,)))
    fired = letter(5, "1-0", box="act", what="timer", timer="again")
    done.advance((turn(fired, timers=(again,)),), 2)
    assert done.image.timers == {"again": ("2-0", 100)}
    assert done.image.outbox is not None
    assert done.image.outbox.over == ()


def test_of_many_replies_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "REPLIES_KEPT", 3)
    done = folded(*(turn(letter(number)) for number in range(1, 6)))
    assert list(done.image.replies) == ["id3", "id4", "id5"]


def test_of_large_replies_the_newest_are_kept_and_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "REPLY_BYTES_KEPT", 20)
    small = folded(*(turn(letter(number), value=1234) for number in range(1, 6)))
    assert list(small.image.replies) == ["id4", "id5"]
    assert small.image.reply_bytes == 2 * len("id4" + "1234")
    refused = msgspec.structs.replace(turn(letter(6)), reply=Outcome(failure=failure("refused", "x" * 100)))
    small.advance((refused,), 6)
    assert list(small.image.replies) == ["id6"]


def test_what_a_turn_sent_is_left_over_until_the_next_turn_begins() -> None:
    send = Send("k", "b", raw({}))
    sent = folded(turn(letter(1), sends=(send, send)))
    assert sent.image.outbox == Outbox(1, 0, 77, (send, send))
    sent.advance((SendFailed(0, failure("too_large", "much")),), 2)
    assert sent.image.outbox == Outbox(1, 0, 77, (send, send), failed=(0,))
    sent.advance((Begun(letter(2)),), 3)
    assert sent.image.outbox is None
    sent.advance((SendFailed(0, failure("too_large", "much")),), 4)
    assert sent.image.outbox is None


def test_a_deleted_actor_begins_anew_and_knows_what_was_taken() -> None:
    done = folded(turn(relay(5, "k/x", (7, 0))), Begun(letter(1)), Steps((step("a"),)))
    done.advance((Tombstone(Position(3, 6, (8,)), {"k/x": Mark(7, 0, 9)}),), 4)
    assert state_json(done.actor) == b'{"total":0,"seen":[]}'
    assert done.image == Image(3, 6, (8,), {"k/x": Mark(7, 0, 9)}, deleted=True)
    assert done.image.taken(letter(2))
    done.advance((turn(letter(4)),), 5)
    assert not done.image.deleted


def test_a_snapshot_kept_beside_the_log_stands_for_what_it_covers() -> None:
    whole = [stored(number, turn(letter(number), number)) for number in range(1, 6)]
    half = fold(Counter, "a", whole[:3])
    rest = fold(Counter, "a", whole[3:], Stored(3, 0, half.saved()))
    assert state_json(rest.actor) == state_json(fold(Counter, "a", whole).actor)
    assert rest.sequence == 5
    assert fold(Counter, "a", [], Stored(3, 0, half.saved())).sequence == 3


def test_how_far_back_the_log_reaches_is_counted_from_the_last_snapshot() -> None:
    done = folded(turn(letter(1)), turn(letter(2)))
    assert (done.first, done.sequence) == (1, 2)
    done.advance((done.snapshot(),), 50)
    assert done.image.records == 0
    done.advance((turn(letter(3)),), 70)
    assert (done.first, done.image.records) == (70, 1)


def test_a_snapshot_keeps_which_replies_are_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "REPLIES_KEPT", 3)
    done = folded(*(turn(letter(number, name)) for number, name in enumerate("zya", 1)))
    done.advance((done.snapshot(),), 4)
    done.advance((turn(letter(5, "m")),), 5)
    assert list(done.image.replies) == ["y", "a", "m"]


ENTRIES: list[Entry] = [
    Begun(letter(1)),
    Steps((step("a"),)),
    asked("q"),
    Cancelled(msgspec.structs.replace(step("b"), cancelled=True)),
    Failed(letter(1), failure("defect", "broken"), 1),
    Begun(letter(1), 2),
    turn(letter(1), 2, sends=(Send("k", "b", raw({})),), timers=(TimerSet("t", 100, raw({})),)),
    SendFailed(0, failure("too_large", "much")),
    turn(relay(2, "k/x", (7, 0)), 3),
    turn(relay(3, "k/x", (8, 0), what="ask"), 4),
    Begun(letter(9)),
    asked("r"),
    Steps((step("c"), step("q"))),
    turn(letter(9), 5, timers=(TimerSet("t"),)),
    turn(letter(12, "p", box="act", what="promoted"), at=Position(9, 3, (12,))),
    Tombstone(Position(10, 4, (12,)), {"k/x": Mark(8, 0, 0)}),
    turn(letter(13), 6),
]


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(0, len(ENTRIES) - 1)), st.integers(1, len(ENTRIES)))
def test_snapshots_after_any_records_change_nothing(after: set[int], length: int) -> None:
    plain, rolled = Fold(Counter, "a"), Fold(Counter, "a")
    for number, entry in enumerate(ENTRIES[:length]):
        plain.advance((entry,), number + 1)
        rolled.advance((entry,), number + 1)
        if number in after:
            snapshot = rolled.snapshot()
            rolled = fold(Counter, "a", [stored(number + 1, snapshot)])
    assert state_json(rolled.actor) == state_json(plain.actor)
    assert msgspec.structs.replace(rolled.image, records=0) == msgspec.structs.replace(plain.image, records=0)
