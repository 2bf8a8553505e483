"""What is counted of an owner that was stopped and overtaken: the counting itself, and one short run with real processes."""

from pathlib import Path

import msgspec
import pytest

from regrow.actors.records import Cause, Outcome, Record, Turn
from regrow.bench.paused import Query, Relays, Written, answers, applied, pause, writes
from regrow.bench.paused_app import Applied, Seen
from regrow.bus import Address, encode

A, B = Address("receiver", "a"), Address("receiver", "b")


def written(address: Address, at_ns: int, writer: str, *ops: str) -> Written:
    events = tuple(msgspec.Raw(encode(Applied(op=op))) for op in ops)
    return address, at_ns, Record(1, f"{writer}-{at_ns}", (Turn(Cause("in", ""), 0, 0, Outcome(), events),))


def test_a_write_of_the_old_owner_behind_one_of_the_new_is_counted_in_its_log_alone() -> None:
    found = writes(
        [written(A, 1, "old"), written(A, 3, "new"), written(A, 4, "old"), written(B, 2, "old")], "old", "new"
    )
    assert found == {
        "old_writes_after_new": 1,
        "old_writes_after_takeover": 1,
        "records_old": 3,
        "records_new": 1,
    }


def test_a_write_of_the_old_owner_to_a_log_that_the_new_one_has_not_touched_is_counted_by_its_time() -> None:
    found = writes([written(A, 1, "new"), written(B, 2, "old")], "old", "new")
    assert (found["old_writes_after_new"], found["old_writes_after_takeover"]) == (0, 1)


def test_what_was_applied_twice_or_not_at_all_is_counted() -> None:
    records = [written(A, 1, "old", "s>0", "ask-1"), written(B, 2, "new", "s>0", "s>2")]
    assert applied(records, 3, ["ask-1", "ask-2"]) == {"applied_twice": 1, "sends_lost": 1, "asks_lost": 1}


def test_an_answer_is_stale_when_more_had_been_acknowledged_before_the_query_was_sent() -> None:
    old, new = 1, 2
    queries = [
        Query(5, 0.0, [(11.0, Seen(old, 4)), (11.0, Seen(new, 5))]),
        Query(5, 0.0, [(11.0, Seen(old, 5))]),
        Query(5, 0.0, [(9.0, Seen(old, 4))]),
    ]
    assert answers(queries, old, 10.0) == {"old_answers": 2, "stale_answers": 1}


def test_a_relay_counts_as_repeated_from_its_second_time_on() -> None:
    relays = Relays()
    relays.seen = [(1.0, "x"), (2.0, "x"), (3.0, "y"), (4.0, "x")]
    assert (relays.repeated(), relays.repeated(3.0)) == (2, 1)


@pytest.mark.asyncio
async def test_an_owner_that_was_stopped_past_lease_and_window_changes_nothing_when_it_goes_on(tmp_path: Path) -> None:
    found = await pause(tmp_path, window_s=1.0, sends=1_000, after_s=1.0)
    assert found.is_right, found
    assert found.relayed_before < found.sends
    assert found.stopped_s > found.window_s
    assert found.asks_under_way > 0
    assert found.records_old > 0
    assert found.records_new > 0
