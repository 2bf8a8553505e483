"""The streams of an application, as values, and the two things done with them: made once, compared ever after.

A server that lost its key answers as if its streams did not exist, and creating them then removes the old ones from disk.
So nothing here creates at start what it merely misses: ``create_streams`` runs for a store known to be new or when a person
said so, ``open_streams`` only compares.
"""

import secrets
from typing import Any

from regrow.bus.api import STREAM_NAME_TAKEN, STREAM_NOT_FOUND, ApiError, JetStreamApi, together
from regrow.bus.errors import StoreUnavailable
from regrow.bus.subjects import LOG_STREAMS, SHARDS, Subjects

MAILBOX_MESSAGES_MAX = 1_000
"""Waiting messages per actor in the outside mailbox; the next one is refused at its publisher."""
MAILBOX_BYTES_MAX = 4 * 1024**3
DEDUPLICATION_S = 120
"""Window in which the runtime's own mailbox drops a repeated relay; older ones are known by the receiver's watermark."""
_SECOND_NS = 1_000_000_000
_NOTHING_LOST = {
    "discard": "old",
    "max_age": 0,
    "max_bytes": -1,
    "max_msgs": -1,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "max_consumers": -1,
    "discard_new_per_subject": False,
    "no_ack": False,
    "allow_msg_ttl": False,
    "allow_rollup_hdrs": False,
    "allow_msg_schedules": False,
    "subject_transform": None,
    "mirror": None,
    "sealed": False,
}
"""Said for every stream, also where it is the default: a stream that was changed to anything else loses messages."""
_EPOCH = "regrow-epoch"

Config = dict[str, Any]


def stream_configs(subjects: Subjects, *, replicas: int = 1) -> list[Config]:
    """Every stream of the application as the server's JSON, in a fixed order; the first is the first log stream."""
    app = subjects.app
    common: Config = {"storage": "file", "num_replicas": replicas, **_NOTHING_LOST}
    logs = [
        {
            **common,
            "name": subjects.log_stream(number),
            "subjects": [f"rg.{app}.evt.{number}.>"],
            "retention": "limits",
            "discard": "new",
            "allow_direct": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "republish": {
                "src": f"rg.{app}.evt.*.*.*",
                "dest": f"rg.{app}.live.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}",
            },
        }
        for number in range(LOG_STREAMS)
    ]
    outside: Config = {
        **common,
        "name": subjects.mail_stream("in"),
        "subjects": [f"rg.{app}.in.*.*"],
        "retention": "workqueue",
        "discard": "new",
        "discard_new_per_subject": True,
        "max_msgs_per_subject": MAILBOX_MESSAGES_MAX,
        "max_bytes": MAILBOX_BYTES_MAX,
        "duplicate_window": _SECOND_NS // 10,
        "allow_direct": True,
        "subject_transform": _partition(app, "in", "q"),
    }
    runtime: Config = {
        **common,
        "name": subjects.mail_stream("act"),
        "subjects": [f"rg.{app}.act.*.*", f"rg.{app}.tm.>"],
        "retention": "workqueue",
        "duplicate_window": DEDUPLICATION_S * _SECOND_NS,
        "allow_msg_schedules": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "subject_transform": _partition(app, "act", "aq"),
    }
    dead: Config = {
        **common,
        "name": subjects.dead_letter_stream,
        "subjects": [f"rg.{app}.dlq.*.*"],
        "retention": "limits",
        "allow_direct": True,
    }
    leases: Config = {
        **common,
        "name": subjects.lease_stream,
        "subjects": [f"$KV.{subjects.lease_bucket}.>"],
        "retention": "limits",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
    }
    return [*logs, outside, runtime, dead, leases]


async def create_streams(api: JetStreamApi, subjects: Subjects, *, replicas: int = 1) -> None:
    """Makes the streams that are not there yet; streams that are there are left as they are."""
    first, *others = stream_configs(subjects, replicas=replicas)
    first["metadata"] = {_EPOCH: secrets.token_hex(6)}
    await _create(api, first)
    await together(_create(api, config) for config in others)


async def open_streams(api: JetStreamApi, subjects: Subjects) -> str:
    """The application's epoch, after every stream was found as its definition wants it.

    Raises ``StoreUnavailable`` naming the first stream that is missing or was made otherwise.
    """
    wanted = stream_configs(subjects)
    found = await together(_find(api, config["name"]) for config in wanted)
    for config, actual in zip(wanted, found, strict=True):
        if actual is None:
            raise StoreUnavailable(
                f"stream {config['name']} is not on this server; check that it is the right server and that its store "
                f"is whole, or make the streams of {subjects.app!r} with: regrow run --create"
            )
        wrong = difference(config, actual)
        if wrong:
            raise StoreUnavailable(
                f"stream {config['name']} was made with another {wrong}; regrow would lose messages on it"
            )
    metadata: dict[str, str] = (found[0] or {}).get("metadata") or {}
    if _EPOCH not in metadata:
        raise StoreUnavailable(f"stream {wanted[0]['name']} was not made by regrow: its metadata has no {_EPOCH}")
    return metadata[_EPOCH]


def difference(wanted: Config, actual: Config) -> str | None:
    """The first setting in which a stream differs from its definition; replicas are the operator's choice."""
    for name, value in wanted.items():
        if name in ("metadata", "num_replicas"):
            continue
        if (actual.get(name) or 0) != (value or 0):
            return name
    return None


def _partition(app: str, box: str, stored: str) -> Config:
    return {
        "src": f"rg.{app}.{box}.*.*",
        "dest": f"rg.{app}.{stored}.{{{{partition({SHARDS},1,2)}}}}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}",
    }


async def _create(api: JetStreamApi, config: Config) -> None:
    try:
        await api.call(f"STREAM.CREATE.{config['name']}", config)
    except ApiError as error:
        if error.refusal.err_code != STREAM_NAME_TAKEN:
            raise


async def _find(api: JetStreamApi, name: str) -> Config | None:
    try:
        answer = await api.call(f"STREAM.INFO.{name}")
    except ApiError as error:
        if error.refusal.err_code == STREAM_NOT_FOUND:
            return None
        raise
    config: Config = answer["config"]
    return config
