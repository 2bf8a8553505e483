"""What the answer of an HTTP server means that a client raised: its status, its headers, and the code in its body.

Clients are known by what their exceptions look like, never imported: openai, anthropic, httpx, httpx2, requests, aiohttp, urllib.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from regrow.actors.failure_kind import CORRUPT_CONTEXT, NETWORK, QUOTA, REJECTED, THROTTLED, Diagnosis
from regrow.actors.retry_after import retry_after_s

CODES = {
    "insufficient_quota": QUOTA,
    "billing_hard_limit_reached": QUOTA,
    "billing_not_active": QUOTA,
    "billing_error": QUOTA,
    "context_length_exceeded": CORRUPT_CONTEXT,
    "request_too_large": CORRUPT_CONTEXT,
    "rate_limit_exceeded": THROTTLED,
    "rate_limit_error": THROTTLED,
    "overloaded_error": THROTTLED,
    "server_error": NETWORK,
    "api_error": NETWORK,
    "timeout_error": NETWORK,
    "invalid_request_error": REJECTED,
    "authentication_error": REJECTED,
    "permission_error": REJECTED,
    "not_found_error": REJECTED,
}
"""Kinds by the codes and types that model providers write into their errors."""
SPENT = "spend_limit_reached"
"""What Anthropic's codes for a used-up budget end with."""
STATUSES = {402: QUOTA, 408: NETWORK, 425: NETWORK, 429: THROTTLED, 501: REJECTED, 505: REJECTED, 529: THROTTLED}
"""Kinds by the status, where 4xx would be ``rejected`` and 5xx ``network``."""
MODEL_STATUSES = {409: NETWORK, 413: CORRUPT_CONTEXT}
"""The same for model providers: their 409 is a lock that was not got in time, their 413 a conversation that is too long."""
MODELS = ("openai", "anthropic")
STATUS_NAMES = {"aiohttp": "status", "urllib": "code", "nats": "code"}
"""What an exception calls its status, by its package; NATS answers with those of HTTP."""
BODY_BYTES_MAX = 65_536
"""No larger body of a failed request is looked into."""


def http_failure(error: BaseException) -> Diagnosis | None:
    """What it means, if it carries the answer of an HTTP server."""
    response: Any = getattr(error, "response", None)
    status = _status(error, response)
    if status is None:
        return None
    headers: Any = getattr(response, "headers", getattr(error, "headers", None))
    after_s = retry_after_s(cast(Mapping[str, str], headers), time.time()) if hasattr(headers, "items") else None
    is_model = _package(error) in MODELS
    kind = kind_of(status, tuple(_codes(error, response)), is_model=is_model, says_when=after_s is not None)
    return Diagnosis(kind, after_s) if kind is not None else None


def coded_failure(error: BaseException) -> Diagnosis | None:
    """What it means, if a model provider has said so in the middle of a stream, where there is no status any more."""
    if _package(error) not in MODELS:
        return None
    kind = next((kind for kind in map(_kind_of_code, _codes(error, None)) if kind is not None), None)
    return Diagnosis(kind) if kind is not None else None


def kind_of(status: int, codes: tuple[str, ...], *, is_model: bool, says_when: bool) -> str | None:
    """The kind of failure that a status and the codes in its body tell of; None for a status that tells of none.

    ``says_when``: a header tells how long to wait, and then a 503 is a server that has too much to do.
    """
    if status < 300:
        return None
    by_code = [kind for kind in map(_kind_of_code, codes) if kind in (QUOTA, CORRUPT_CONTEXT)]
    if by_code:
        return by_code[0]
    if is_model and status in MODEL_STATUSES:
        return MODEL_STATUSES[status]
    if status == 503 and says_when:
        return THROTTLED
    return STATUSES.get(status, NETWORK if status >= 500 else REJECTED)


def _status(error: BaseException, response: Any) -> int | None:
    """Many clients call it ``status_code``, of the exception or of its response; some have names of their own."""
    for holder, name in (
        (error, "status_code"),
        (response, "status_code"),
        (error, STATUS_NAMES.get(_package(error), "")),
    ):
        found: Any = getattr(holder, name, None)
        if isinstance(found, int) and 100 <= found < 600:
            return found
    return None


def _codes(error: BaseException, response: Any) -> Iterator[str]:
    """The codes and types that the error names, the narrower ones first."""
    bodies = [getattr(error, "body", None), _json(response)]
    errors = [_mapping(_mapping(body).get("error")) or _mapping(body) for body in bodies]
    found: list[object] = [_mapping(each.get("details")).get("error_code") for each in errors]
    found.append(getattr(error, "code", None))
    found += [each.get(name) for name in ("code", "type") for each in errors]
    for each in (*found, getattr(error, "type", None)):
        if isinstance(each, str):
            yield each


def _kind_of_code(code: str) -> str | None:
    return QUOTA if code.endswith(SPENT) else CODES.get(code)


def _json(response: Any) -> object:
    """The JSON of a body that has been read."""
    try:
        content: Any = getattr(response, "content", None)
        return msgspec.json.decode(content) if isinstance(content, bytes) and len(content) <= BODY_BYTES_MAX else None
    except (RuntimeError, msgspec.DecodeError, UnicodeDecodeError):  # a stream that was never read, a page of HTML
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}


def _package(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]
