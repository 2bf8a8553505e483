"""The streams of an application: made once, compared ever after."""

import json
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from regrow.bus import (
    Address,
    EmbeddedServer,
    Finding,
    NatsBus,
    StoreUnavailable,
    Subjects,
    check_store,
    make_store,
    open_bus,
)
from regrow.bus.streams import difference, stream_configs
from regrow.bus.subjects import log_number


async def call(client: Client, verb: str, body: object = None) -> dict[str, Any]:
    answer = await client.request(f"$JS.API.{verb}", json.dumps(body or {}).encode(), timeout=10)
    fields: dict[str, Any] = json.loads(answer.data)
    assert "error" not in fields, fields
    return fields


async def epoch(client: Client, app: str, *, create: bool = False) -> str:
    async with open_bus(client, app, create=create) as bus:
        return bus.epoch


async def change(client: Client, name: str, **settings: object) -> None:
    """Changes settings of a stream as an operator would."""
    config = (await call(client, f"STREAM.INFO.{name}"))["config"]
    await call(client, f"STREAM.UPDATE.{name}", {**config, **settings})


@pytest.mark.asyncio
async def test_creating_twice_is_harmless_and_keeps_the_epoch(client: Client, app: str) -> None:
    first = await epoch(client, app, create=True)
    assert await epoch(client, app, create=True) == first
    assert await epoch(client, app) == first


@pytest.mark.asyncio
async def test_two_applications_have_epochs_of_their_own(client: Client, app: str) -> None:
    assert await epoch(client, app, create=True) != await epoch(client, f"{app}-b", create=True)


@pytest.mark.asyncio
async def test_streams_are_not_made_by_merely_opening(client: Client, app: str) -> None:
    with pytest.raises(StoreUnavailable, match=f"RG_{app}_EVT_0 is not on this server"):
        await epoch(client, app)
    with pytest.raises(StoreUnavailable):
        await epoch(client, app)


@pytest.mark.asyncio
async def test_each_missing_stream_is_named(client: Client, app: str) -> None:
    await epoch(client, app, create=True)
    for config in stream_configs(Subjects(app))[::5]:
        await call(client, f"STREAM.DELETE.{config['name']}")
        with pytest.raises(StoreUnavailable, match=config["name"]):
            await epoch(client, app)
        await epoch(client, app, create=True)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("suffix", "setting", "value"),
    [
        ("EVT_3", "max_msgs", 1000),
        ("EVT_3", "max_age", 10**12),
        ("EVT_3", "max_msgs_per_subject", 10),
        ("EVT_3", "allow_direct", False),
        ("EVT_0", "discard", "old"),
        ("IN", "max_msgs_per_subject", 5),
        ("IN", "allow_rollup_hdrs", True),
        ("ACT", "max_msgs", 5),
        ("ACT", "max_bytes", 10_000),
        ("IN", "duplicate_window", 10**9),
        ("ACT", "no_ack", True),
        ("DLQ", "max_msgs", 5),
        ("SNAP", "max_age", 10**12),
    ],
)
async def test_a_changed_setting_is_named(client: Client, app: str, suffix: str, setting: str, value: object) -> None:
    await epoch(client, app, create=True)
    await change(client, f"RG_{app}_{suffix}", **{setting: value})
    with pytest.raises(StoreUnavailable, match=f"RG_{app}_{suffix} was made with another {setting}"):
        await epoch(client, app)


@pytest.mark.asyncio
async def test_the_window_in_which_relays_are_dropped_is_the_operators_choice(client: Client, app: str) -> None:
    first = await epoch(client, app, create=True)
    await change(client, f"RG_{app}_ACT", duplicate_window=10**9)
    assert await epoch(client, app) == first


@pytest.mark.asyncio
async def test_that_window_may_be_chosen_when_the_streams_are_made(client: Client, app: str) -> None:
    async with open_bus(client, app, create=True, duplicate_window_s=0.5):
        config = (await call(client, f"STREAM.INFO.RG_{app}_ACT"))["config"]
    assert config["duplicate_window"] == 500_000_000


@pytest.mark.asyncio
async def test_what_became_of_each_stream_is_told(client: Client, app: str) -> None:
    assert {each.state for each in await check_store(client, app)} == {"missing"}
    made = await make_store(client, app)
    assert [each.stream for each in made] == [config["name"] for config in stream_configs(Subjects(app))]
    assert {each.state for each in made} == {"created"}
    assert {each.state for each in await check_store(client, app)} == {"there"}
    await call(client, f"STREAM.DELETE.RG_{app}_SNAP")
    await change(client, f"RG_{app}_EVT_3", max_age=10**12)
    again = {each.stream: each for each in await make_store(client, app)}
    assert again[f"RG_{app}_SNAP"] == Finding(f"RG_{app}_SNAP", "created")
    assert again[f"RG_{app}_EVT_3"] == Finding(f"RG_{app}_EVT_3", "differs", "max_age")
    assert again[f"RG_{app}_EVT_0"] == Finding(f"RG_{app}_EVT_0", "there")


@pytest.mark.asyncio
async def test_a_first_stream_without_an_epoch_differs_in_its_metadata(client: Client, app: str) -> None:
    config = stream_configs(Subjects(app))[0]
    await call(client, f"STREAM.CREATE.{config['name']}", config)
    assert (await check_store(client, app))[0] == Finding(config["name"], "differs", "metadata")


@pytest.mark.asyncio
async def test_a_record_of_a_log_cannot_be_deleted(nats_bus: NatsBus, client: Client) -> None:
    sequence = await nats_bus.log.append(Address("k", "a"), b'{"rid":"1"}', rid="1", after=0)
    stream = nats_bus.subjects.log_stream(log_number(Address("k", "a")))
    answer = await client.request(f"$JS.API.STREAM.MSG.DELETE.{stream}", json.dumps({"seq": sequence}).encode())
    assert json.loads(answer.data)["error"]["description"] == "message delete not permitted"
    config = (await call(client, f"STREAM.INFO.{stream}"))["config"]
    for allowed in ({"deny_delete": False}, {"deny_purge": True}):
        answer = await client.request(f"$JS.API.STREAM.UPDATE.{stream}", json.dumps({**config, **allowed}).encode())
        assert "error" in json.loads(answer.data), "a log that can be rolled up can be purged, and stays undeletable"
    assert len(await nats_bus.log.read(Address("k", "a"))) == 1


@pytest.mark.asyncio
async def test_more_replicas_and_metadata_of_an_operator_are_no_difference(client: Client, app: str) -> None:
    first = await epoch(client, app, create=True)
    await change(client, f"RG_{app}_ACT", metadata={"team": "blue"})
    assert await epoch(client, app) == first


@pytest.mark.asyncio
async def test_streams_of_another_maker_are_refused(client: Client, app: str) -> None:
    for config in stream_configs(Subjects(app)):
        await call(client, f"STREAM.CREATE.{config['name']}", config)
    with pytest.raises(StoreUnavailable, match="not made by regrow"):
        await epoch(client, app)


@pytest.mark.asyncio
async def test_the_epoch_outlives_the_server(store_dir: Path, app: str) -> None:
    seen: list[str] = []
    for create in (True, False):
        async with EmbeddedServer(store_dir, durability="process") as server:
            client = await nats.connect(server.url)
            seen.append(await epoch(client, app, create=create))
            await client.close()
    assert seen[0] == seen[1]


def test_every_stream_says_what_it_never_does() -> None:
    configs = {config["name"]: config for config in stream_configs(Subjects("a"), replicas=3)}
    assert len(configs) == 22
    assert all(config["num_replicas"] == 3 and config["max_age"] == 0 for config in configs.values())
    assert not configs["RG_a_IN"]["allow_rollup_hdrs"]
    assert not configs["RG_a_IN"]["allow_msg_schedules"]


def test_what_the_server_leaves_out_counts_as_unset() -> None:
    assert difference({"no_ack": False, "max_age": 0, "mirror": None}, {}) is None
    assert difference({"name": "a", "discard": "new"}, {"name": "a", "discard": "old"}) == "discard"
    assert difference({"metadata": {"a": "b"}, "num_replicas": 1}, {"num_replicas": 3}) is None
