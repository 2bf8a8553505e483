"""A supervisor of alike partitions, so that no single child is where everybody waits."""

import os
import random
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from regrow.supervisor.errors import InvalidOption
from regrow.supervisor.intensity import Intensity
from regrow.supervisor.lifetime import Lifetime
from regrow.supervisor.spec import ChildSpec
from regrow.supervisor.tree import Rules


class Supervised(Protocol):
    """Whatever can say how it is supervised: any supervisor, or a service."""

    def child_spec(self) -> ChildSpec:
        """Its spec; the id is replaced by the number of the partition."""
        ...


P = TypeVar("P", bound=Supervised)


class PartitionSupervisor(Lifetime, Generic[P]):
    """The same child several times, one_for_one, and a key says which (Elixir's PartitionSupervisor).

        pool = PartitionSupervisor("sessions", lambda n: DynamicSupervisor(f"sessions-{n}"), partitions=4)
        async with pool:
            await pool.partition("user-17").start_child(serve)

    `make` is called with 0, 1, … once for each partition when this is made; their ids are "0", "1", …
    `partitions` is the number of processors when nothing is said.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[int], P],
        *,
        partitions: int | None = None,
        intensity: Intensity = Intensity(),  # noqa: B008 - a frozen value
        draw: Callable[[], float] = random.random,
    ) -> None:
        count = (os.cpu_count() or 1) if partitions is None else partitions
        if count < 1:
            raise InvalidOption(f"supervisor {name!r}: partitions must be 1 or more, not {count}")
        self._partitions = tuple(make(number) for number in range(count))
        specs = [replace(one.child_spec(), id=str(number)) for number, one in enumerate(self._partitions)]
        super().__init__(name, specs, Rules(intensity=intensity), draw)

    @property
    def partitions(self) -> tuple[P, ...]:
        """All of them, in order."""
        return self._partitions

    def partition(self, key: str | bytes | int) -> P:
        """The partition of this key: the same for equal keys in every process, as long as their number is the same.

        A number is taken modulo, as in Elixir; anything else by its CRC-32, since Python's own hash of a text is
        another in each process.
        """
        if isinstance(key, int):
            return self._partitions[key % len(self._partitions)]
        data = key.encode() if isinstance(key, str) else key
        return self._partitions[zlib.crc32(data) % len(self._partitions)]
