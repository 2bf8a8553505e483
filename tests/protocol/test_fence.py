"""Holes of the event log: H2 (late appends), H7, H8, M7, C11, and security fact 1."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus import Address, NatsBus, StaleWriter, Undecodable, decode, encode, record_id
from regrow.bus.api import WRONG_LAST_SEQUENCE
from regrow.bus.headers import EXPECTED_SEQUENCE, fence
from regrow.bus.subjects import LOG_STREAMS, log_number

ALICE = Address("counter", "alice")
WAIT_S = 20.0
NO_DELETE, NO_PURGE = 10057, 10052
ROOT = Path(__file__).parents[2]


class Count(msgspec.Struct):
    """A record of a counter that is rolled up now and then: an event adds one, a roll-up says the total."""

    rid: str
    after: int
    """The total after this record, by which a reader's fold is checked."""
    whole: bool


def record(rid: str) -> bytes:
    return encode({"rid": rid})


async def ask(
    client: Client, subject: str, body: object = b"", headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """The server's answer to what anybody sends."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await client.request(subject, data, timeout=WAIT_S, headers=headers)
    fields: dict[str, Any] = json.loads(answer.data)
    return fields


def code(answer: dict[str, Any]) -> int | None:
    """The error's number, None where the server agreed."""
    number: int | None = answer.get("error", {}).get("err_code")
    return number


# M7: the fence


@pytest.mark.asyncio
@pytest.mark.parametrize("header", [{EXPECTED_SEQUENCE: ""}, {EXPECTED_SEQUENCE.lower(): "0"}])
async def test_a_fence_that_is_empty_or_misspelt_is_none_to_the_server(
    nats_bus: NatsBus, client: Client, header: dict[str, str]
) -> None:
    """The fact for which one function writes it."""
    await nats_bus.log.append(ALICE, record("1"), rid="1", after=0)
    assert code(await ask(client, nats_bus.subjects.log(ALICE), record("2"), header)) is None


@pytest.mark.asyncio
@pytest.mark.parametrize("stale", [0, 1, 3, 2**62])
async def test_the_fence_that_we_write_stops_whoever_is_stale(nats_bus: NatsBus, client: Client, stale: int) -> None:
    last = await nats_bus.log.append(ALICE, record("1"), rid="1", after=0)
    last = await nats_bus.log.append(ALICE, record("2"), rid="2", after=last)
    for rollup in (False, True):
        answer = await ask(client, nats_bus.subjects.log(ALICE), record("3"), fence(stale, rollup=rollup))
        assert code(answer) == WRONG_LAST_SEQUENCE
    assert [each.sequence for each in await nats_bus.log.read(ALICE)] == [1, last]


@given(st.integers(min_value=0, max_value=2**64 - 1), st.booleans())
def test_no_sequence_gives_an_empty_fence_or_another_name(after: int, rollup: bool) -> None:
    value = fence(after, rollup=rollup)["Nats-Expected-Last-Subject-Sequence"]
    assert value.isascii()
    assert value.isdigit()
    assert int(value) == after


def test_one_module_alone_knows_the_name_of_the_fence() -> None:
    """The benchmark apart, which measures the server without us."""
    sources = [path for path in ROOT.glob("*/regrow/**/*.py") if "nats-expected" in path.read_text().lower()]
    names = {path.relative_to(ROOT).as_posix() for path in sources}
    assert names - {"bench/regrow/bench/raw.py"} == {"bus/regrow/bus/headers.py"}


# H7: a log never becomes empty


@pytest.mark.asyncio
async def test_no_record_can_be_deleted_and_none_grows_old(nats_bus: NatsBus, client: Client) -> None:
    """Purging cannot be forbidden beside roll-ups, so the permission to do it is given to nobody, and nothing here asks for it."""
    last = await nats_bus.log.append(ALICE, record("1"), rid="1", after=0)
    stream = nats_bus.subjects.log_stream(log_number(ALICE))
    assert code(await ask(client, f"$JS.API.STREAM.MSG.DELETE.{stream}", {"seq": last})) == NO_DELETE
    config = (await ask(client, f"$JS.API.STREAM.INFO.{stream}"))["config"]
    assert config["max_age"] == 0
    assert not config.get("allow_msg_ttl")
    assert code(await ask(client, f"$JS.API.STREAM.UPDATE.{stream}", {**config, "deny_purge": True})) == NO_PURGE


@pytest.mark.asyncio
@pytest.mark.parametrize("stale", [0, 1, 2])
async def test_the_last_word_on_a_deleted_actor_keeps_its_log_from_starting_anew(nats_bus: NatsBus, stale: int) -> None:
    last = await nats_bus.log.append(ALICE, record("1"), rid="1", after=0)
    last = await nats_bus.log.append(ALICE, record("2"), rid="2", after=last)
    tombstone = await nats_bus.log.append(ALICE, record("gone"), rid="gone", after=last, rollup=True)
    with pytest.raises(StaleWriter) as refused:
        await nats_bus.log.append(ALICE, record("late"), rid="late", after=stale)
    assert refused.value.found == tombstone
    assert [each.data for each in await nats_bus.log.read(ALICE)] == [record("gone")]


@pytest.mark.asyncio
async def test_a_log_that_somebody_purged_is_noticed_by_its_writer(nats_bus: NatsBus, client: Client) -> None:
    last = await nats_bus.log.append(ALICE, record("1"), rid="1", after=0)
    purged = await ask(client, f"$JS.API.STREAM.PURGE.{nats_bus.subjects.log_stream(log_number(ALICE))}")
    assert purged["success"]
    with pytest.raises(StaleWriter) as stale:
        await nats_bus.log.append(ALICE, record("2"), rid="2", after=last)
    assert stale.value.found == 0


@pytest.mark.asyncio
async def test_nothing_that_the_bus_does_takes_a_record_out_of_a_log(
    nats_bus: NatsBus, client: Client, watcher: Client
) -> None:
    asked: list[str] = []

    async def listen(message: Msg) -> None:
        asked.append(message.subject)

    await watcher.subscribe("$JS.API.STREAM.>", cb=listen)
    await watcher.flush()
    last = 0
    for number in range(10):
        rid = f"{number}"
        last = await nats_bus.log.append(ALICE, record(rid), rid=rid, after=last, rollup=number % 3 == 2)
    await nats_bus.log.read(ALICE)
    async with nats_bus.mail.serve(lambda _: None, lambda _: None):
        await nats_bus.mail.post("in", ALICE, b"")
    await ask(client, f"$JS.API.STREAM.INFO.{nats_bus.subjects.mail_stream('in')}")
    async with asyncio.timeout(WAIT_S):
        while not any(f"INFO.{nats_bus.subjects.mail_stream('in')}" in each for each in asked):
            await watcher.flush()
    logs = [each for each in asked if "_EVT_" in each and nats_bus.subjects.app in each]
    assert not [each for each in logs if "PURGE" in each or "DELETE" in each]


# H8: what a reader folds


@pytest.mark.asyncio
async def test_readers_beside_rollups_fold_what_the_writers_meant_and_fence_with_what_they_read(
    nats_bus: NatsBus,
) -> None:
    """Every writer reads, folds, and appends one more after the last record that it read; some append a roll-up instead."""
    dice = random.Random(8)
    wins: list[int] = []
    reads = 0

    async def total() -> tuple[int, int]:
        """The fold of the log, and its last sequence."""
        nonlocal reads
        reads += 1
        folded, last = 0, 0
        for stored in await nats_bus.log.read(ALICE):
            count = decode(stored.data, Count)
            folded = count.after if count.whole else folded + 1
            assert folded == count.after
            last = stored.sequence
        return folded, last

    async def write(name: str) -> None:
        for number in range(40):
            folded, last = await total()
            rollup = dice.random() < 0.3
            count = Count(f"{name}.{number}", folded + 1, rollup)
            try:
                await nats_bus.log.append(ALICE, encode(count), rid=count.rid, after=last, rollup=rollup)
            except StaleWriter as stale:
                assert stale.found is not None
                assert stale.found > last
            else:
                wins.append(count.after)

    async def look() -> None:
        while len(wins) < 60:
            await total()

    async with asyncio.TaskGroup() as tasks:
        for name in "abcdef":
            tasks.create_task(write(name))
        tasks.create_task(look())
    assert sorted(wins) == list(range(1, len(wins) + 1))
    assert (await total())[0] == len(wins)
    assert reads > len(wins)


# C11: many streams


def test_the_logs_of_many_actors_lie_evenly_in_their_streams() -> None:
    count = 16_000
    for kind in ("counter", "researcher", "k"):
        found = Counter(log_number(Address(kind, f"{number}")) for number in range(count))
        assert set(found) == set(range(LOG_STREAMS))
        mean = count / LOG_STREAMS
        assert min(found.values()) > 0.75 * mean
        assert max(found.values()) < 1.25 * mean


@pytest.mark.asyncio
async def test_a_stream_is_asked_by_two_readers_at_once_and_the_other_streams_do_not_wait(
    nats_bus: NatsBus, client: Client, watcher: Client
) -> None:
    """The streams are away, and somebody in their place who hears the questions and answers none until told to."""
    number = log_number(ALICE)
    near = [each for each in (Address("k", f"{key}") for key in range(500)) if log_number(each) == number][:10]
    far = next(each for each in (Address("k", f"{key}") for key in range(500)) if log_number(each) != number)
    questions: asyncio.Queue[Msg] = asyncio.Queue()
    streams = [nats_bus.subjects.log_stream(log_number(each)) for each in (near[0], far)]
    for stream in streams:
        assert (await ask(client, f"$JS.API.STREAM.DELETE.{stream}"))["success"]
        await watcher.subscribe(f"$JS.API.DIRECT.GET.{stream}", cb=questions.put)
    await watcher.flush()
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(nats_bus.log.read(each)) for each in (*near, far)]
        first = [await questions.get() for _ in range(3)]
        assert [each.subject.rpartition(".")[2] for each in first] == [streams[0], streams[0], streams[1]]
        await nothing(client, first.pop())
        for _ in near[2:]:
            await nothing(client, first.pop())
            first.append(await questions.get())
        for question in first:
            await nothing(client, question)
    assert questions.empty()
    assert all(reader.result() == [] for reader in readers)


async def nothing(client: Client, question: Msg) -> None:
    """Answers that the log has no record."""
    await client.publish(question.reply, b"", headers={"Status": "404", "Description": "Message Not Found"})


# Security fact 1: what the server was tricked into storing


@pytest.mark.asyncio
async def test_an_acknowledgement_in_a_victims_log_is_no_record_and_stops_its_writer(
    nats_bus: NatsBus, client: Client
) -> None:
    """Whoever may publish anywhere chooses where the server's answer goes, also into a log he may not write to."""
    last = await nats_bus.log.append(ALICE, record("1"), rid="1", after=0)
    own = nats_bus.subjects.mail("in", Address("counter", "mallory"))
    await client.publish(own, b"", reply=nats_bus.subjects.log(ALICE))
    async with asyncio.timeout(WAIT_S):
        while len(found := await nats_bus.log.read(ALICE)) < 2:
            pass
    assert b'"stream":' in found[-1].data
    with pytest.raises(Undecodable, match="rid"):
        record_id(found[-1].data)
    with pytest.raises(StaleWriter) as stale:
        await nats_bus.log.append(ALICE, record("2"), rid="2", after=last)
    assert stale.value.found == found[-1].sequence
