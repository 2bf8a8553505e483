"""JetStream's JSON interface, spoken directly: nats-py's stream settings do not know every field that regrow needs."""

import asyncio
from collections.abc import Coroutine, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from regrow.bus.codec import decode, encode
from regrow.bus.errors import BusError, NoResponder, StoreUnavailable
from regrow.bus.replies import ReplyInbox

T = TypeVar("T")

STREAM_NOT_FOUND = 10059
STREAM_NAME_TAKEN = 10058
CONSUMER_NOT_FOUND = 10014
MESSAGE_NOT_FOUND = 10037
CONSUMER_NOT_UNIQUE = 10100
WRONG_LAST_SEQUENCE = 10071
WRONG_LAST_SEQUENCE_UNKNOWN = 10164
APPEND_IN_FLIGHT = 10158
LIMIT_REACHED = 10077
SEQUENCE_NOT_FOUND = 10043
DELETE_FAILED = 10057
FENCED = frozenset({WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_UNKNOWN, APPEND_IN_FLIGHT})
"""Refusals of a publish whose fence did not hold, or could not be decided yet."""
NO_ROOM = frozenset({10023, 10028, 10047, 10118, 10120})
"""Insufficient resources, memory or storage of the server or the account exhausted."""


class Refusal(msgspec.Struct, frozen=True):
    """The error of a JetStream answer."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct, frozen=True):
    """The answer to a publish into a stream."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: Refusal | None = None


@dataclass(eq=False)
class ApiError(BusError):
    """The server refused a JetStream call."""

    verb: str
    refusal: Refusal

    def __str__(self) -> str:
        return f"the server refused {self.verb}: {self.refusal.description} ({self.refusal.err_code})"


class JetStreamApi:
    """Calls of ``$JS.API``, each one request and one JSON answer."""

    def __init__(self, replies: ReplyInbox, *, timeout_s: float = 10.0) -> None:
        self._replies = replies
        self._timeout_s = timeout_s

    async def call(self, verb: str, body: object = None) -> dict[str, Any]:
        """The answer's fields. Raises ``ApiError`` on a refusal, ``StoreUnavailable`` when JetStream is not enabled."""
        payload = b"" if body is None else encode(body)
        try:
            answer = await self._replies.request(f"$JS.API.{verb}", payload, timeout_s=self._timeout_s)
        except NoResponder:
            raise StoreUnavailable(
                "this NATS server has JetStream disabled for the account; enable it in its configuration"
            ) from None
        fields = decode(answer.data, dict[str, Any], f"answer to {verb}")
        if fields.get("error"):
            raise ApiError(verb, msgspec.convert(fields["error"], Refusal))
        return fields

    async def subjects(self, stream: str, pattern: str) -> list[str]:
        """The subjects of a stream that fit a pattern and hold a message, page by page (the server gives 100,000 in one)."""
        found: list[str] = []
        while True:
            asked = {"subjects_filter": pattern, "offset": len(found)}
            answer = await self.call(f"STREAM.INFO.{stream}", asked)
            page: dict[str, int] = answer["state"].get("subjects") or {}
            found.extend(page)
            if not page or len(found) >= int(answer.get("total", 0)):
                return found

    async def purge(self, stream: str, subject: str) -> None:
        """Removes all messages of a subject."""
        await self.call(f"STREAM.PURGE.{stream}", {"filter": subject})


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The values of calls made at once. When one fails the others are cancelled, and have ended before its error is raised."""
    with alone(first=True):
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(call) for call in calls]
    return [each.result() for each in running]


@contextmanager
def alone(*, first: bool = False) -> Generator[None]:
    """Takes a single error, or the ``first`` one, out of the group that a TaskGroup put it into, as it was raised."""
    try:
        yield
    except BaseExceptionGroup as group:
        error, *others = group.exceptions
        if others and not first:
            raise
    else:
        return
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context  # else it would say that it happened while its own group was handled
