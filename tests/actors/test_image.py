"""What a log amounts to: pure folding, from the first record or from a snapshot after any of them."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.actors import Actor, ActorError, Event, event, image
from regrow.actors.errors import failure
from regrow.actors.image import Fold, Open, Outbox, fold, state_json
from regrow.actors.records import (
    Begun,
    Cancelled,
    Cause,
    Entry,
    Failed,
    Letter,
    Outcome,
    Record,
    Send,
    Step,
    Steps,
    Turn,
)
from regrow.actors.wire import ask_id
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


def letter(
    sequence: int, message_id: str = "", box: Box = "in", sender: str = "", mark: tuple[int, int] | None = None
) -> Letter:
    return Letter(box, sequence, message_id or f"id{sequence}", raw({}), sender=sender, mark=mark)


def turn(taken: Letter, amount: int = 1, value: int = 0, sends: tuple[Send, ...] = ()) -> Turn:
    cause = Cause(taken.box, taken.id, taken.sender, taken.mark)
    position = (taken.sequence, 0) if taken.box == "in" else (0, taken.sequence)
    return Turn(cause, *position, Outcome(raw(value)), (raw(Added(amount=amount)),), sends)


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


def test_another_attempt_runs_what_ended_the_last_one_and_what_was_cancelled_on_the_way() -> None:
    cancelled = msgspec.structs.replace(step("c"), cancelled=True)
    cause = failure("defect", "broken")
    failed = folded(
        Begun(letter(1)),
        Steps((step("a"), step("b"), step("c"), step("d"))),
        Cancelled(cancelled),
        Failed(letter(1), cause, 1, ("b",)),
    )
    assert failed.image.opened is not None
    assert [each.key for each in failed.image.opened.kept] == ["a", "d"]
    failed.advance((Steps((step("b"), step("c"))),), 5)
    assert failed.image.opened.steps == [step("b"), step("c")]
    failed.advance((Failed(letter(1), cause, 2, ("d",)),), 6)
    assert [each.key for each in failed.image.opened.kept] == ["a", "b", "c"]


def test_a_letter_is_taken_when_it_lies_behind_the_position_of_its_box() -> None:
    done = folded(turn(letter(5)))
    assert done.image.taken(letter(5))
    assert done.image.taken(letter(4))
    assert not done.image.taken(letter(6))
    assert not done.image.taken(letter(4, box="act"))
    assert done.image.position_after(letter(6)) == (6, 0)
    assert done.image.position_after(letter(2, box="act")) == (5, 2)


def test_a_repeated_message_from_outside_is_known_by_its_id_and_box() -> None:
    done = folded(turn(letter(5, "mine"), value=3))
    assert done.image.taken(letter(9, "mine"))
    assert done.image.reply_to(letter(9, "mine")) == Outcome(raw(3))
    assert not done.image.taken(letter(9, "mine", box="act"))
    assert done.image.reply_to(letter(9, "other")) is None


def test_a_relay_is_known_by_its_senders_mark() -> None:
    sent = letter(5, "e.1.7.0", box="act", sender="k/x", mark=(7, 0))
    done = folded(turn(sent))
    assert done.image.taken(msgspec.structs.replace(sent, sequence=9, mark=(7, 0)))
    assert done.image.taken(msgspec.structs.replace(sent, sequence=9, mark=(6, 5)))
    assert not done.image.taken(msgspec.structs.replace(sent, sequence=9, mark=(7, 1)))
    assert not done.image.taken(msgspec.structs.replace(sent, sequence=9, mark=(1, 0), sender="k/y"))
    assert done.image.replies == {}


def test_the_asks_of_another_actor_are_kept_while_its_turn_lasts() -> None:
    first, second = (letter(number, ask_id("k/x", "in3", f"s{number}"), box="act") for number in (1, 2))
    done = folded(turn(first, value=1), turn(second, value=2))
    assert done.image.reply_to(first) == Outcome(raw(1))
    assert done.image.reply_to(second) == Outcome(raw(2))
    assert done.image.reply_to(letter(9, ask_id("k/y", "in3", "s1"), box="act")) is None
    done.advance((turn(letter(3, ask_id("k/x", "in4", "s1"), box="act")),), 3)
    assert done.image.reply_to(first) is None


def test_of_many_replies_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "REPLIES_KEPT", 3)
    done = folded(*(turn(letter(number)) for number in range(1, 6)))
    assert list(done.image.replies) == ["in:id3", "in:id4", "in:id5"]


def test_of_large_replies_the_newest_are_kept_and_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "REPLY_BYTES_KEPT", 25)
    small = folded(*(turn(letter(number), value=1234) for number in range(1, 6)))
    assert list(small.image.replies) == ["in:id4", "in:id5"]
    assert small.image.reply_bytes == 2 * len("in:id4" + "1234")
    refused = msgspec.structs.replace(turn(letter(6)), reply=Outcome(failure=failure("refused", "x" * 100)))
    small.advance((refused,), 6)
    assert list(small.image.replies) == ["in:id6"]


def test_of_many_peers_those_heard_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "PEERS_KEPT", 2)
    marks = folded(*(turn(letter(n, box="act", sender=who, mark=(n, 0))) for n, who in enumerate("xyxz", 1)))
    assert marks.image.marks == {"x": (3, 0), "z": (4, 0)}
    asked = folded(*(turn(letter(n, ask_id(f"k/{who}", "in1", "s"), box="act")) for n, who in enumerate("xyxz", 1)))
    assert list(asked.image.asked) == ["k=2Fx", "k=2Fz"]


def test_what_a_turn_sent_is_left_over_until_it_is_relayed() -> None:
    send = Send("k", "b", raw({}))
    sent = folded(turn(letter(1), sends=(send,)))
    assert sent.image.outbox == Outbox(1, (send,))
    sent.advance((turn(letter(2)),), 2)
    assert sent.image.outbox is None


def test_a_snapshot_keeps_which_replies_are_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "REPLIES_KEPT", 3)
    done = folded(*(turn(letter(number, name)) for number, name in enumerate("zya", 1)))
    done.advance((done.snapshot(),), 4)
    done.advance((turn(letter(5, "m")),), 5)
    assert list(done.image.replies) == ["in:y", "in:a", "in:m"]


ENTRIES: list[Entry] = [
    Begun(letter(1)),
    Steps((step("a"),)),
    Cancelled(msgspec.structs.replace(step("b"), cancelled=True)),
    Failed(letter(1), failure("defect", "broken"), 1),
    turn(letter(1), 2, sends=(Send("k", "b", raw({})),)),
    turn(letter(2, "e.1.7.0", box="act", sender="k/x", mark=(7, 0)), 3),
    turn(letter(3, ask_id("k/x", "in1", "s"), box="act"), 4),
    Begun(letter(9)),
    Steps((step("c"), step("d"))),
    turn(letter(9), 5),
]


@settings(max_examples=60, deadline=None)
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
