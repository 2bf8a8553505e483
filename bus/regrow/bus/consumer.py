"""One pull consumer of a work queue: what it is called, what it has delivered, and whether it wants another pull request.

No I/O and no tasks; ``MailService`` does what this says. The numbers of a consumer's deliveries have no gaps, because nothing is
redelivered within one consumer; a gap therefore shows a message that was lost on its way.
"""

import secrets
from typing import Any, Literal, NamedTuple

from regrow.bus.subjects import Box

PULL_BATCH = 512
PULL_BYTES = 256 * 1024
"""After so much a pull request ends: those of 64 consumers, and once more those of the consumers before them, are half of what
a server keeps for one connection by default."""
PULL_EXPIRES_S = 30.0
HEARTBEAT_S = 2.0
SILENCE_S = 3 * HEARTBEAT_S
"""An open pull request without any sign for this long is taken for lost: a server that deletes a consumer at the moment when
the request arrives answers nothing at all."""
_YEAR_NS = 365 * 24 * 3600 * 1_000_000_000
_SECOND_NS = 1_000_000_000
_HEARTBEAT = "100"
_ENDED = ("404", "408")
"""The server says so when a pull request has expired, or found nothing."""
_TOO_LARGE = "Message Size Exceeds MaxBytes"
_SPENT = (_TOO_LARGE, "Batch Completed")
"""A 409 with one of these ends a pull request for no other reason than its size."""

Verdict = Literal["fine", "pull", "doubt"]


class Consumer:
    """One pull consumer: its name carries shard and epoch, so that an earlier owner's acknowledgements go nowhere."""

    def __init__(self, box: Box, shard: int, epoch: int) -> None:
        self.box: Box = box
        self.shard = shard
        self.epoch = epoch
        self.name = f"s{shard}_{epoch}_{secrets.token_hex(4)}"
        self.pull = 0
        """The number of the open pull request; statuses of earlier ones say nothing any more."""
        self.wants_large = False
        """Whether the next message is larger than a pull request allows, and must be asked for alone."""
        self._wanted = 0
        self._taken = 0
        self._heard_s = 0.0
        self._delivered = 0

    def config(self, subject: str, *, in_memory: bool) -> dict[str, Any]:
        """The server's JSON: never redelivers by itself, and nobody's backlog stops the others.

        Kept in the server's memory it is gone with the server, and its successor delivers again what nobody acknowledged.
        """
        return {
            "name": self.name,
            "durable_name": self.name,
            "filter_subject": subject,
            "ack_policy": "explicit",
            "ack_wait": _YEAR_NS,
            "max_ack_pending": -1,
            "max_deliver": -1,
            "deliver_policy": "all",
            "mem_storage": in_memory,
        }

    def wants_pull(self, now_s: float) -> bool:
        """Whether no pull request is open, or the open one has been silent for too long."""
        return self._wanted <= 0 or self.is_silent(now_s)

    def is_silent(self, now_s: float) -> bool:
        return self._wanted > 0 and now_s - self._heard_s > SILENCE_S

    def has_large(self, now_s: float) -> bool:
        """Whether a pull request for a large message is open, and not silent."""
        return self.wants_large and self._wanted > 0 and not self.is_silent(now_s)

    def next_pull(self, now_s: float) -> dict[str, int | bool]:
        """The body of the next pull request, which is the open one from now on."""
        self.pull += 1
        self._wanted = 1 if self.wants_large else PULL_BATCH
        self._taken = 0
        self._heard_s = now_s
        if self.wants_large:
            return {"batch": 1, "no_wait": True}
        return {
            "batch": PULL_BATCH,
            "max_bytes": PULL_BYTES,
            "expires": int(PULL_EXPIRES_S * _SECOND_NS),
            "idle_heartbeat": int(HEARTBEAT_S * _SECOND_NS),
        }

    @property
    def delivered(self) -> int:
        """The number of the last delivery, from 1."""
        return self._delivered

    def drop_pull(self) -> None:
        """Forgets the open pull request."""
        self._wanted = 0

    def take(self, delivery: int, now_s: float) -> Verdict:
        """Counts a delivery by its number in this consumer; ``doubt`` when one before it was lost."""
        if delivery != self._delivered + 1:
            return "doubt"
        self._delivered = delivery
        self._heard_s = now_s
        self._taken += 1
        self._wanted -= 1
        if self._wanted > 0:
            return "fine"
        self.wants_large = False
        return "pull"

    def told(self, pull: int, code: str, why: str, now_s: float) -> Verdict:
        """What a status means: a sign of life, the end of the pull request, or that the consumer may be gone."""
        if pull != self.pull:
            return "fine"
        self._heard_s = now_s
        if code == _HEARTBEAT:
            return "fine"
        self._wanted = 0
        self.wants_large = why == _TOO_LARGE and not self._taken
        return "pull" if code in _ENDED or why in _SPENT else "doubt"


class Position(NamedTuple):
    """What an acknowledgement subject says of its message."""

    consumer: str
    sequence: int
    """In the stream."""
    delivery: int
    """Of the consumer, from 1."""


def parse_ack(subject: str) -> Position:
    """The position in an acknowledgement subject, which has nine tokens, or more where the server has a domain (ADR-15)."""
    tokens = subject.split(".")
    first = 3 if len(tokens) == 9 else 5
    consumer, _, sequence, delivery = tokens[first : first + 4]
    return Position(consumer, int(sequence), int(delivery))


def parse_name(name: str) -> tuple[int, int]:
    """Shard and epoch in a consumer's name; (-1, 0) for a consumer that is not a shard's."""
    parts = name.split("_")
    if len(parts) == 3 and parts[0].startswith("s") and parts[0][1:].isdigit() and parts[1].isdigit():
        return int(parts[0][1:]), int(parts[1])
    return -1, 0
