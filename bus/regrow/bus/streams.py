"""The streams of an application, as values, and the two things done with them: made once, compared ever after.

A server that lost its key answers as if its streams did not exist, and creating them then removes the old ones from disk.
So nothing here creates at start what it merely misses: ``create_streams`` runs for a store known to be new or when a person
said so, ``check_streams`` and ``open_streams`` only compare.

The logs cannot be told to refuse a purge: to the server a roll-up is one. ``deny_delete`` keeps single records from being
removed; that nobody purges a log is a matter of permissions.
"""

import secrets
from typing import Any, Literal

import msgspec

from regrow.bus.api import NO_ROOM, STREAM_NAME_TAKEN, STREAM_NOT_FOUND, ApiError, JetStreamApi, together
from regrow.bus.claims import claim_stream
from regrow.bus.errors import StoreFull, StoreUnavailable
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

_OPERATORS = frozenset({"metadata", "num_replicas"})
"""Settings that are the operator's choice."""

Config = dict[str, Any]


class Finding(msgspec.Struct, frozen=True):
    """What became of one stream, or how it was found."""

    stream: str
    state: Literal["created", "there", "missing", "differs"]
    setting: str | None = None
    """The first setting in which it differs from its definition."""


def stream_configs(
    subjects: Subjects, *, replicas: int = 1, duplicate_window_s: float | None = DEDUPLICATION_S
) -> list[Config]:
    """Every stream of the application as the server's JSON, in a fixed order; the first is the first log stream.

    ``duplicate_window_s`` is that of the runtime's own mailbox, None to say nothing of it: the receiver's watermark is what
    a relay's single arrival stands on, the window only saves it work.
    """
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
        "allow_msg_schedules": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "subject_transform": _partition(app, "act", "aq"),
    }
    if duplicate_window_s is not None:
        runtime["duplicate_window"] = int(duplicate_window_s * _SECOND_NS)
    snapshots: Config = {
        **common,
        "name": subjects.snapshot_stream,
        "subjects": [f"rg.{app}.snap.*.*.*"],
        "retention": "limits",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
    }
    claims: Config = {
        **common,
        "name": claim_stream(subjects),
        "subjects": [f"$O.{subjects.claim_bucket}.C.>", f"$O.{subjects.claim_bucket}.M.>"],
        "retention": "limits",
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
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
    return [*logs, outside, runtime, dead, leases, snapshots, claims]


async def create_streams(
    api: JetStreamApi, subjects: Subjects, *, replicas: int = 1, duplicate_window_s: float = DEDUPLICATION_S
) -> list[Finding]:
    """Makes the streams that are not there yet; streams that are there are left as they are. What became of each.

    Raises ``StoreFull`` when the server has less storage than a stream reserves, ``ApiError`` when it refuses one otherwise.
    """
    configs = stream_configs(subjects, replicas=replicas, duplicate_window_s=duplicate_window_s)
    configs[0]["metadata"] = {_EPOCH: secrets.token_hex(6)}
    before = await check_streams(api, subjects)
    missing = [config for config, found in zip(configs, before, strict=True) if found.state == "missing"]
    created = {config["name"] for config in missing[:1] if await _create(api, config)}
    made = await together(_create(api, config) for config in missing[1:])
    created |= {config["name"] for config, new in zip(missing[1:], made, strict=True) if new}
    return [
        Finding(finding.stream, "created") if finding.stream in created and finding.state == "there" else finding
        for finding in await check_streams(api, subjects)
    ]


async def check_streams(api: JetStreamApi, subjects: Subjects) -> list[Finding]:
    """How each stream of the application is found on the server, in the order of ``stream_configs``."""
    return [finding for finding, _ in await _compare(api, subjects)]


async def open_streams(api: JetStreamApi, subjects: Subjects) -> str:
    """The application's epoch, after every stream was found as its definition wants it.

    Raises ``StoreUnavailable`` naming the first stream that is missing or was made otherwise.
    """
    compared = await _compare(api, subjects)
    for finding, _ in compared:
        if finding.state == "missing":
            raise StoreUnavailable(
                f"stream {finding.stream} is not on this server; check that it is the right server and that its store "
                f"is whole, or make the streams of {subjects.app!r} with: regrow streams create, or regrow run --create"
            )
        if finding.setting == "metadata":
            raise StoreUnavailable(
                f"stream {finding.stream} was not made by regrow: its metadata has no {_EPOCH}; "
                "use another server or another name for the application"
            )
        if finding.state == "differs":
            raise StoreUnavailable(
                f"stream {finding.stream} was made with another {finding.setting}; regrow would lose messages on it"
            )
    return _epoch(compared[0][1])


def difference(wanted: Config, actual: Config) -> str | None:
    """The first setting in which a stream differs from its definition."""
    for name, value in wanted.items():
        if name not in _OPERATORS and (actual.get(name) or 0) != (value or 0):
            return name
    return None


async def _compare(api: JetStreamApi, subjects: Subjects) -> list[tuple[Finding, Config]]:
    """Each stream's state and its configuration on the server (empty when it is missing)."""
    wanted = stream_configs(subjects, duplicate_window_s=None)
    found = await together(_find(api, config["name"]) for config in wanted)
    return [
        (_judge(config, actual, first=number == 0), actual or {})
        for number, (config, actual) in enumerate(zip(wanted, found, strict=True))
    ]


def _judge(wanted: Config, actual: Config | None, *, first: bool) -> Finding:
    name = wanted["name"]
    if actual is None:
        return Finding(name, "missing")
    wrong = difference(wanted, actual)
    if wrong is None and first and not _epoch(actual):
        wrong = "metadata"
    return Finding(name, "there") if wrong is None else Finding(name, "differs", wrong)


def _epoch(actual: Config) -> str:
    """The epoch in a stream's metadata, empty when it has none."""
    metadata: dict[str, str] = actual.get("metadata") or {}
    return metadata.get(_EPOCH, "")


def _partition(app: str, box: str, stored: str) -> Config:
    return {
        "src": f"rg.{app}.{box}.*.*",
        "dest": f"rg.{app}.{stored}.{{{{partition({SHARDS},1,2)}}}}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}",
    }


async def _create(api: JetStreamApi, config: Config) -> bool:
    """Whether the stream was made; one of that name may be there already."""
    try:
        answer = await api.call(f"STREAM.CREATE.{config['name']}", config)
    except ApiError as error:
        if error.refusal.err_code in NO_ROOM:
            raise StoreFull(config["name"], config["max_bytes"] if config["max_bytes"] > 0 else None) from error
        if error.refusal.err_code != STREAM_NAME_TAKEN:
            raise
        return False
    return bool(answer.get("did_create"))


async def _find(api: JetStreamApi, name: str) -> Config | None:
    try:
        answer = await api.call(f"STREAM.INFO.{name}")
    except ApiError as error:
        if error.refusal.err_code == STREAM_NOT_FOUND:
            return None
        raise
    config: Config = answer["config"]
    return config
