"""What a pull consumer says of itself: pure decisions about pulls, gaps and statuses."""

import pytest

from regrow.bus.consumer import PULL_BATCH, PULL_BYTES, SILENCE_S, Consumer, parse_ack, parse_name

TOO_LARGE = "Message Size Exceeds MaxBytes"


def pulling(now_s: float = 0.0) -> Consumer:
    consumer = Consumer("in", 3, 17)
    consumer.next_pull(now_s)
    return consumer


def test_a_name_carries_shard_and_epoch_and_is_never_used_twice() -> None:
    one, other = Consumer("in", 3, 17), Consumer("in", 3, 17)
    assert parse_name(one.name) == (3, 17)
    assert one.name != other.name


@pytest.mark.parametrize("name", ["", "s3", "s3_17", "s_17_x", "x3_17_ab", "s3_x_ab", "s3_17_ab_c", "mine"])
def test_a_name_of_another_maker_is_no_shard(name: str) -> None:
    assert parse_name(name) == (-1, 0)


def test_an_acknowledgement_subject_is_read_in_both_its_forms() -> None:
    assert parse_ack("$JS.ACK.RG_a_IN.s3_17_ab.1.42.7.1700.0") == ("s3_17_ab", 42, 7)
    assert parse_ack("$JS.ACK.hub.ACCOUNT.RG_a_IN.s3_17_ab.1.42.7.1700.0") == ("s3_17_ab", 42, 7)
    assert parse_ack("$JS.ACK.hub.ACCOUNT.RG_a_IN.s3_17_ab.1.42.7.1700.0.token") == ("s3_17_ab", 42, 7)


def test_a_new_consumer_wants_a_pull_and_then_waits_for_its_end() -> None:
    consumer = Consumer("act", 0, 1)
    assert consumer.wants_pull(0.0)
    assert consumer.next_pull(0.0)["batch"] == PULL_BATCH
    assert not consumer.wants_pull(1.0)


def test_the_last_message_of_a_batch_asks_for_the_next_one() -> None:
    consumer = pulling()
    verdicts = [consumer.take(number, 0.0) for number in range(1, PULL_BATCH + 1)]
    assert verdicts == ["fine"] * (PULL_BATCH - 1) + ["pull"]
    assert consumer.wants_pull(0.0)


@pytest.mark.parametrize("first", [2, 0])
def test_a_delivery_out_of_sequence_casts_doubt(first: int) -> None:
    assert pulling().take(first, 0.0) == "doubt"


def test_a_missing_delivery_casts_doubt_and_so_do_those_after_it() -> None:
    consumer = pulling()
    assert [consumer.take(number, 0.0) for number in (1, 2, 4, 5)] == ["fine", "fine", "doubt", "doubt"]


def test_silence_wants_a_new_pull_and_any_sign_of_life_ends_it() -> None:
    consumer = pulling(0.0)
    assert consumer.is_silent(SILENCE_S + 1)
    assert consumer.wants_pull(SILENCE_S + 1)
    assert consumer.told(1, "100", "Idle Heartbeat", SILENCE_S) == "fine"
    assert not consumer.wants_pull(SILENCE_S + 1)
    consumer.take(1, 2 * SILENCE_S)
    assert not consumer.is_silent(2 * SILENCE_S + 1)


@pytest.mark.parametrize(("code", "verdict"), [("404", "pull"), ("408", "pull"), ("409", "doubt"), ("503", "doubt")])
def test_the_end_of_a_pull_is_told_from_the_end_of_a_consumer(code: str, verdict: str) -> None:
    consumer = pulling()
    assert consumer.told(1, code, "", 0.0) == verdict
    assert consumer.wants_pull(0.0)


@pytest.mark.parametrize("why", [TOO_LARGE, "Batch Completed"])
def test_a_pull_that_ended_for_its_size_casts_no_doubt(why: str) -> None:
    consumer = pulling()
    consumer.take(1, 0.0)
    assert consumer.told(1, "409", why, 0.0) == "pull"
    assert consumer.next_pull(0.0)["max_bytes"] == PULL_BYTES


def test_a_message_that_no_pull_has_room_for_is_asked_for_alone() -> None:
    consumer = pulling()
    assert consumer.told(1, "409", TOO_LARGE, 0.0) == "pull"
    assert consumer.wants_large
    assert not consumer.has_large(0.0)
    assert consumer.next_pull(0.0) == {"batch": 1, "no_wait": True}
    assert consumer.has_large(0.0)
    assert not consumer.has_large(SILENCE_S + 1)
    assert consumer.take(1, 0.0) == "pull"
    assert not consumer.has_large(0.0)
    assert consumer.next_pull(0.0)["batch"] == PULL_BATCH


def test_a_large_message_that_is_gone_ends_its_pull() -> None:
    consumer = pulling()
    consumer.told(1, "409", TOO_LARGE, 0.0)
    consumer.next_pull(0.0)
    assert consumer.told(2, "404", "No Messages", 0.0) == "pull"
    assert consumer.next_pull(0.0)["batch"] == PULL_BATCH


def test_a_status_of_an_earlier_pull_says_nothing() -> None:
    consumer = pulling()
    consumer.next_pull(1.0)
    assert consumer.told(1, "408", "Request Timeout", 2.0) == "fine"
    assert not consumer.wants_pull(2.0)


def test_a_pull_that_was_not_sent_is_wanted_again() -> None:
    consumer = pulling()
    consumer.drop_pull()
    assert consumer.wants_pull(0.0)
    assert not consumer.is_silent(0.0)


def test_a_consumer_never_redelivers_by_itself_and_has_no_limit_of_pending_mail() -> None:
    consumer = Consumer("in", 3, 17)
    config = consumer.config("rg.a.q.3.>", in_memory=True)
    assert config["name"] == config["durable_name"] == consumer.name
    assert config["filter_subject"] == "rg.a.q.3.>"
    assert (config["max_ack_pending"], config["max_deliver"]) == (-1, -1)
    assert config["ack_wait"] > 10**9 * 3600 * 24 * 300
