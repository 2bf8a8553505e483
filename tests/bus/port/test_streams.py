"""The streams of an application: made once, compared ever after."""

import json
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from regrow.bus import EmbeddedServer, StoreUnavailable, Subjects, open_bus
from regrow.bus.streams import difference, stream_configs


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
        ("ACT", "duplicate_window", 10**9),
        ("ACT", "no_ack", True),
        ("DLQ", "max_msgs", 5),
    ],
)
async def test_a_changed_setting_is_named(client: Client, app: str, suffix: str, setting: str, value: object) -> None:
    await epoch(client, app, create=True)
    await change(client, f"RG_{app}_{suffix}", **{setting: value})
    with pytest.raises(StoreUnavailable, match=f"RG_{app}_{suffix} was made with another {setting}"):
        await epoch(client, app)


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
    assert len(configs) == 20
    assert all(config["num_replicas"] == 3 and config["max_age"] == 0 for config in configs.values())
    assert not configs["RG_a_IN"]["allow_rollup_hdrs"]
    assert not configs["RG_a_IN"]["allow_msg_schedules"]


def test_what_the_server_leaves_out_counts_as_unset() -> None:
    assert difference({"no_ack": False, "max_age": 0, "mirror": None}, {}) is None
    assert difference({"name": "a", "discard": "new"}, {"name": "a", "discard": "old"}) == "discard"
    assert difference({"metadata": {"a": "b"}, "num_replicas": 1}, {"num_replicas": 3}) is None
