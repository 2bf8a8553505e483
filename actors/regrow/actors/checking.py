"""Whether the live logs of an application fit this build: each is read, folded and replayed, and nothing else is touched.

It may run beside the nodes that serve the application: it only reads. Logs are read on the caller's event loop and replayed in a
thread, on an event loop of their own.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import msgspec

from regrow.actors.administration import AT_ONCE
from regrow.actors.dry_run import DryRuns
from regrow.actors.errors import CORRUPT, UNDECODABLE, UNKNOWN, Failure, failure
from regrow.actors.group import Kind
from regrow.actors.overview import image_of
from regrow.actors.recovered import Recovered, recover
from regrow.actors.schedule import RESERVED
from regrow.actors.scheduler import PORT
from regrow.actors.system import System
from regrow.bus import Address, Bus, BusError, ClaimMissing, Undecodable
from regrow.bus.api import together


class Finding(msgspec.Struct, frozen=True):
    """How the log of one actor fits this build."""

    address: Address
    misfit: Failure | None = None
    """Why the actor would wait with trouble, were this build started now; of kind ``drift``, ``undecodable``, ``corrupt``,
    ``defect`` or, when the application has no such actors any more, ``unknown``."""

    @property
    def fits(self) -> bool:
        return self.misfit is None


class _Read(msgspec.Struct, frozen=True):
    """What was read of one actor: its log folded, or why that did not work."""

    address: Address
    held: Recovered | None = None
    misfit: Failure | None = None


async def check(system: System, bus: Bus) -> AsyncGenerator[Finding]:
    """A finding on every durable actor that has a log, in the order of their addresses.

    Replays answer recorded steps and block every other one: no tool runs, nothing is asked, sent or recorded. A turn fits when
    its handler takes all the steps that are recorded, in each of its tasks. Raises what keeps the store from being read.
    """
    kinds = {**system.kinds, RESERVED: system.scheduler}
    ports = {**system.ports, PORT: system.plans}
    dry = await asyncio.to_thread(DryRuns, ports.__getitem__)
    try:
        for some in _batches(sorted(await bus.log.addresses())):
            read = await together(_read(kinds.get(each.kind), each, bus) for each in some)
            for finding in await asyncio.to_thread(_judged, dry, kinds, read):
                yield finding
    finally:
        await asyncio.to_thread(dry.close)


async def _read(kind: Kind | None, address: Address, bus: Bus) -> _Read:
    """The folded log. Whatever a user's event makes of it, or of its own state, is a finding; a store that is away is raised."""
    try:
        if kind is None:
            image = image_of(await bus.log.read(address))
            waits = not image.deleted and (image.opened is not None or bool(image.timers))
            gone = f"the application has no actors of kind {address.kind!r} any more, and a turn or a timer of it waits"
            return _Read(address, misfit=failure(UNKNOWN, gone) if waits else None)
        held = await recover(kind.actor, address, bus.log, kind.policy, _starts_nothing)
        held.fold.check()
        return _Read(address, held)
    except Undecodable as error:
        return _Read(address, misfit=failure(UNDECODABLE, str(error)))
    except BusError as error:
        if not isinstance(error, ClaimMissing):
            raise
        return _Read(address, misfit=failure(CORRUPT, str(error)))
    except Exception as error:  # a user's event or upcaster: what it raises is what is looked for
        return _Read(address, misfit=failure(CORRUPT, f"{type(error).__name__}: {error}"))


def _judged(dry: DryRuns, kinds: Mapping[str, Kind], read: Iterable[_Read]) -> Sequence[Finding]:
    found: list[Finding] = []
    for each in read:
        misfit, held = each.misfit, each.held
        if held is not None and held.image.opened is not None:
            cls = kinds[each.address.kind].actor
            misfit = dry.misfit(cls, each.address, held.working, held.image.opened)
        found.append(Finding(each.address, misfit))
    return found


def _batches(addresses: Iterable[Address]) -> Iterator[Sequence[Address]]:
    left = iter(addresses)
    while some := tuple(islice(left, AT_ONCE)):
        yield some


def _starts_nothing(*_: object) -> asyncio.Task[None]:
    raise AssertionError("a check writes nothing")
