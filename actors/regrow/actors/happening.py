"""What a record tells a projection: the events that a turn decided, that the actor was deleted, or that history is missing. Pure."""

from datetime import UTC, datetime, timedelta

import msgspec

from regrow.actors.records import VERSION, Record, Snapshot, Tombstone, Turn
from regrow.bus import BusError, Followed, Undecodable, decode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Happening = msgspec.Raw | Tombstone | Snapshot | BusError
"""An event as it lies in the log, a deletion, a snapshot in the place of history, or why a record cannot be read."""

Place = tuple[int, int, int]
"""Stream, sequence and index: where in all logs a happening lies."""


class Recorded(msgspec.Struct, frozen=True):
    """Where and when an event was recorded."""

    kind: str
    key: str
    """Kind and key of the actor that decided it."""
    stream: int
    """Which of the log streams."""
    sequence: int
    """Of its record; rises within one stream."""
    index: int
    """Its place among the events of its record."""
    time_ns: int
    """The server's clock when it stored the record, nanoseconds since 1970."""

    @property
    def time(self) -> datetime:
        """The same time in UTC, to the microsecond."""
        return _EPOCH + timedelta(microseconds=self.time_ns // 1000)

    @property
    def place(self) -> Place:
        """The same at every delivery, and rising per actor."""
        return self.stream, self.sequence, self.index

    @property
    def id(self) -> str:
        """The place as text: a key by which what was done for this event is known again."""
        return f"{self.stream}-{self.sequence}-{self.index}"

    def __str__(self) -> str:
        return f"{self.kind}/{self.key} at sequence {self.sequence} of log stream {self.stream}, event {self.index}"


def recorded(followed: Followed, index: int) -> Recorded:
    """Where the happening of this index lies."""
    address, stored = followed.address, followed.stored
    return Recorded(address.kind, address.key, followed.stream, stored.sequence, index, stored.time_ns)


def happenings(followed: Followed) -> tuple[Happening, ...]:
    """All that the record tells, in order; empty for one of a turn that is still open."""
    try:
        record = decode(followed.stored.data, Record, f"record of {followed.address}")
    except Undecodable as error:
        return (error,)
    if record.v != VERSION:
        why = f"this build reads version {VERSION}, not {record.v}; run the build that wrote it"
        return (Undecodable(f"record of {followed.address}", why),)
    found: list[Happening] = []
    for entry in record.entries:
        if isinstance(entry, Turn):
            found.extend(entry.events)
        elif isinstance(entry, Tombstone | Snapshot):
            found.append(entry)
    return tuple(found)
