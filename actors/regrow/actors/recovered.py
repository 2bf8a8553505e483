"""What a process holds of one actor's log: the committed state and image, their writer, and the copy a turn works on."""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from regrow.actors.actor import Actor, Scope, apply_recorded, incarnate, state_of
from regrow.actors.errors import FoldDiffers
from regrow.actors.fields import changes
from regrow.actors.fold import Fold, fold, state_json
from regrow.actors.image import Image
from regrow.actors.policy import Policy
from regrow.actors.writer import Writer
from regrow.bus import Address, EventLog, RequestTimeout, Stored, Undecodable

_log = structlog.get_logger(__name__)

PART = 1_000
"""Records that are folded in one go, some milliseconds."""


class Recovered:
    """An actor as its log has it. Dropped whole when another writer was first."""

    def __init__(
        self,
        cls: type[Actor],
        address: Address,
        folded: Fold,
        writer: Writer,
    ) -> None:
        self.fold = folded
        self.writer = writer
        self._cls = cls
        self._address = address
        self._definition = cls.__regrow__
        self._working: Actor | None = None

    @property
    def image(self) -> Image:
        return self.fold.image

    def working(self, scope: Scope) -> Actor:
        """The copy of the state that a turn works on: the committed one, with the events of the turn applied as they come."""
        if self._working is None:
            self._working = incarnate(self._cls, self._copied(), self._address.key)
        vars(self._working)["_scope"] = scope
        return self._working

    def spoil(self) -> None:
        """The working copy holds what no record will: the next turn begins with the committed state."""
        self._working = None

    def reader(self) -> Actor:
        """An instance that holds the committed state, for whoever only reads.

        Fields that nobody records may be changed in place unnoticed, so of those it gets a copy.
        """
        state = self._copied() if self._definition.persist == "fields" else state_of(self.fold.actor)
        return incarnate(self._cls, state, self._address.key)

    def changed_fields(self) -> msgspec.Raw | None:
        """The event that says which fields the turn has assigned; None when none changed."""
        assert self._working is not None
        return changes(state_of(self.fold.actor), self._working)

    def check(self, events: list[msgspec.Raw]) -> None:
        """Raises what a later recovery from the log would stumble over, were these events recorded now."""
        if self._working is None:
            return
        recorded = incarnate(self._cls, self._copied(), self._address.key)
        for fact in events:
            apply_recorded(recorded, fact)
        self._definition.decode_state(msgspec.Raw(state_json(recorded)))
        held, expected = state_json(self._working), state_json(recorded)
        if held != expected:
            raise FoldDiffers(str(self._address), held.decode(), expected.decode())

    def _copied(self) -> msgspec.Struct:
        """The committed state once more. Raises ``Undecodable`` when an event left in it what its types do not allow."""
        return self._definition.decode_state(msgspec.Raw(state_json(self.fold.actor)))


async def recover(
    cls: type[Actor],
    address: Address,
    log: EventLog,
    policy: Policy,
    start: Callable[..., asyncio.Task[None]],
) -> Recovered:
    """The actor as its log has it now. Raises ``RequestTimeout`` after the policy's time, and what stands in the way of reading."""
    limit = asyncio.timeout(policy.recovery_timeout_s)
    try:
        async with limit:
            folded = await _folded(cls, address, log, policy)
    except TimeoutError:
        if not limit.expired():
            raise
        raise RequestTimeout(f"the log of {address}", policy.recovery_timeout_s) from None
    return Recovered(cls, address, folded, Writer(log, address, folded, policy, start))


async def _folded(cls: type[Actor], address: Address, log: EventLog, policy: Policy) -> Fold:
    """The fold from the snapshot that lies beside a kept log, or of the whole log where there is none that can be read."""
    saved = await log.saved(address) if policy.history == "keep" else None
    if saved is not None:
        try:
            return await _fold_by_parts(fold(cls, address.key, [], saved), await log.read(address, saved.sequence))
        except Undecodable as error:
            _log.warning("a snapshot cannot be used, reading the whole log", actor=str(address), error=str(error))
    return await _fold_by_parts(Fold(cls, address.key), await log.read(address))


async def _fold_by_parts(folded: Fold, records: list[Stored]) -> Fold:
    """The fold with all of these, letting others have the loop in between."""
    for number, stored in enumerate(records, 1):
        folded.add(stored)
        if number % PART == 0:
            await asyncio.sleep(0)
    return folded
