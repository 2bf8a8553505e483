"""The subject grammar of an application: pure functions from an actor's address to names on the wire and back.

A key may be any non-empty string; on the wire each byte outside ``[A-Za-z0-9_-]`` is written ``=HH``, which is legal in
subjects and in the keys of a key-value bucket. The log stream and the shard of an actor are computed here exactly as the
server computes its ``partition`` transform: FNV-1a, 32 bit, over the escaped tokens without the dot between them.
"""

import re
from functools import lru_cache
from typing import Literal, NamedTuple

LOG_STREAMS = 16
"""Logs of one application are spread over this many streams, so that a slow recovery holds up few neighbours."""

SHARDS = 32
"""Mailboxes of one application are served in this many parts, each by one consumer per mailbox."""

KEY_CHARS_MAX = 512
"""Longest escaped key: with every prefix it stays far below the server's limit for a subject."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")

_SUBJECT = re.compile(r"[^\s.*>\x00-\x20\x7f]+(\.[^\s.*>\x00-\x20\x7f]+)*")

Box = Literal["in", "act"]
"""The two mailboxes: ``in`` is open to the outside, ``act`` is the runtime's own."""

BOXES: tuple[Box, Box] = ("in", "act")

_REMEMBERED = 1 << 14
"""Addresses whose hash and token are kept: an active actor needs both at every append."""


class Address(NamedTuple):
    """Who an actor is: its kind (snake_case of the class name) and its key (any text)."""

    kind: str
    key: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.key}"


@lru_cache(maxsize=_REMEMBERED)
def escape(text: str) -> str:
    """The subject token for any text: bytes outside ``[A-Za-z0-9_-]`` become ``=HH``; distinct texts stay distinct."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"_-") else f"={byte:02X}"
        for byte in text.encode()
    )


def unescape(token: str) -> str:
    """The text that ``escape`` turned into this token; ValueError when no text could have given it."""
    raw = re.sub(rb"=([0-9A-F]{2})", lambda hit: bytes([int(hit[1], 16)]), token.encode())
    text = raw.decode()
    if escape(text) != token:
        raise ValueError(f"{token!r} is not an escaped key: write bytes outside [A-Za-z0-9_-] as =HH")
    return text


def fnv1a_32(data: bytes) -> int:
    """The 32 bit FNV-1a hash, as the server's ``partition`` transform uses it."""
    value = 2166136261
    for byte in data:
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value


def check_name(what: str, name: str) -> str:
    """The name itself when it may stand in stream, bucket and subject names; ValueError says what to write instead."""
    if not _PLAIN.fullmatch(name):
        raise ValueError(f"{what} {name!r} may hold only letters, digits, '_' and '-'")
    return name


def check_subject(subject: str) -> str:
    """The subject itself when a message may be published to it; ValueError when it is none, or a wildcard.

    Reply subjects come from whoever asks: unchecked, a line break in one would be a protocol line of its own.
    """
    if not _SUBJECT.fullmatch(subject):
        raise ValueError(f"{subject[:80]!r} is not a subject that a message can be published to")
    return subject


def check_address(address: Address) -> Address:
    """The address itself when it can be put on the wire; ValueError when the kind or the key cannot."""
    check_name("the kind", address.kind)
    if not isinstance(address.key, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # a slip of the untyped
        raise ValueError(f"the key of an actor is text, not {address.key!r}; write str(...)")
    if not address.key:
        raise ValueError(f"an actor of kind {address.kind!r} needs a key that is not empty")
    if len(escape(address.key)) > KEY_CHARS_MAX:
        raise ValueError(
            f"the key {address.key[:40]!r}… is longer than {KEY_CHARS_MAX} escaped characters; use a hash of it"
        )
    return address


def log_number(address: Address) -> int:
    """Which of the ``LOG_STREAMS`` holds the log of this actor."""
    return _hash(address) % LOG_STREAMS


def shard_of(address: Address) -> int:
    """Which of the ``SHARDS`` serves this actor; all logs of one shard lie in one stream."""
    return _hash(address) % SHARDS


@lru_cache(maxsize=_REMEMBERED)
def _hash(address: Address) -> int:
    return fnv1a_32((escape(address.kind) + escape(address.key)).encode())


class Subjects:
    """Every subject, stream and bucket name of one application."""

    def __init__(self, app: str) -> None:
        self.app = check_name("the application's name", app)
        self._root = f"rg.{app}"

    def log(self, address: Address) -> str:
        return f"{self._root}.evt.{log_number(address)}.{self._tail(address)}"

    def mail(self, box: Box, address: Address) -> str:
        return f"{self._root}.{box}.{self._tail(address)}"

    def ask(self, address: Address) -> str:
        return f"{self._root}.ask.{self._tail(address)}"

    def live(self, address: Address) -> str:
        return f"{self._root}.live.{self._tail(address)}"

    def query(self, address: Address) -> str:
        return f"{self._root}.qry.{shard_of(address)}.{self._tail(address)}"

    def timer(self, address: Address, timer: str) -> str:
        """Where a scheduled message of an actor lies until it is due; ``*`` stands for all of that actor's."""
        return f"{self._root}.tm.{log_number(address)}.{self._tail(address)}.{timer}"

    def snapshot(self, address: Address) -> str:
        return f"{self._root}.snap.{log_number(address)}.{self._tail(address)}"

    def dead_letter(self, address: Address) -> str:
        return f"{self._root}.dlq.{self._tail(address)}"

    def tool(self, name: str) -> str:
        return f"{self._root}.tool.{check_name('the tool', name)}"

    def asks(self, kind: str) -> str:
        """The wildcard under which the gateway serves all actors of a kind."""
        return f"{self._root}.ask.{kind}.*"

    def queries(self, shard: int) -> str:
        return f"{self._root}.qry.{shard}.*.*"

    def stored(self, box: Box, shard: int) -> str:
        """The wildcard of one shard's mail, under the subjects the server's partition transform stores it with."""
        return f"{self._root}.{'q' if box == 'in' else 'aq'}.{shard}.>"

    def log_stream(self, number: int) -> str:
        return f"RG_{self.app}_EVT_{number}"

    def mail_stream(self, box: Box) -> str:
        return f"RG_{self.app}_{box.upper()}"

    @property
    def snapshot_stream(self) -> str:
        return f"RG_{self.app}_SNAP"

    @property
    def claim_bucket(self) -> str:
        return f"rg_{self.app}_blobs"

    @property
    def dead_letter_stream(self) -> str:
        return f"RG_{self.app}_DLQ"

    @property
    def lease_bucket(self) -> str:
        return f"rg_{self.app}_leases"

    @property
    def lease_stream(self) -> str:
        return f"KV_{self.lease_bucket}"

    @property
    def cache_bucket(self) -> str:
        return f"rg_{self.app}_cache"

    @property
    def node_bucket(self) -> str:
        return f"rg_{self.app}_nodes"

    def nobody(self, stored: str) -> str:
        """The dead letters' subject for mail whose own subject names no actor: its last two tokens, as they came."""
        return f"{self._root}.dlq.{'.'.join(stored.rsplit('.', 2)[1:])}"

    @staticmethod
    def address(subject: str) -> Address:
        """The actor that a subject ends in: every subject of an actor ends in its kind and escaped key."""
        kind, token = subject.rsplit(".", 2)[1:]
        return Address(kind, unescape(token))

    @staticmethod
    @lru_cache(maxsize=_REMEMBERED)
    def _tail(address: Address) -> str:
        check_address(address)
        return f"{address.kind}.{escape(address.key)}"
