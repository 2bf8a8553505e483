"""Results that are shared through the application's cache: looked up, or made by one for all who want them at once.

Whoever finds nothing puts a note there that he is at it, and renews it while he is; the others, in whatever process, wait until his
result is there, or his note has run out because he has died. A cache that cannot be reached is none: the call is made.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal

import msgspec
import structlog

from regrow.actors.cache import Cache
from regrow.actors.records import Origin, Outcome
from regrow.bus import BusError, decode, encode
from regrow.bus.cache import Cache as Store
from regrow.bus.cache import Held

NOTE_S = 10.0
"""How long a note holds without being renewed: so long others wait for one who has died."""
RENEW_S = 3.0
LOOK_FIRST_S = 0.02
LOOK_LAST_S = 0.5
"""How soon it is looked whether another process has the result, and how seldom in the end."""
PORT = "rg_cache"
"""Under which a handler finds the ``SharedResults`` of its node."""

_log = structlog.get_logger(__name__)


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What lies in the cache: a result with its origin, or the note of whoever is at it."""

    v: int
    value: msgspec.Raw = msgspec.Raw(b"null")
    origin: Origin | None = None
    by: str = ""


Count = Callable[[Literal["cache_hits", "cache_misses"]], None]


class SharedResults:
    """The results of one application, as this process sees them."""

    def __init__(self, store: Store, count: Count) -> None:
        self._store = store
        self._count = count
        self._under_way: dict[str, asyncio.Future[Outcome | None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def outcome(
        self,
        name: str,
        cache: Cache,
        origin: Origin,
        make: Callable[[], Awaitable[Outcome]],
        fits: Callable[[Outcome], bool],
    ) -> Outcome:
        """The shared result of this name, with the origin of whoever made it, or that of ``make``, which others get from now on.

        One that does not ``fit`` is made anew. A failure is the caller's alone: those who waited for it try themselves, one
        after the other.
        """
        while (running := self._under_way.get(name)) is not None:
            made = await asyncio.shield(running)
            if made is not None:
                self._count("cache_hits")
                return made
        mine = self._under_way[name] = asyncio.get_running_loop().create_future()
        told: Outcome | None = None
        try:
            found = await self._found_or_made(name, cache, origin, make, fits)
            if found.failure is None:
                told = Outcome(found.value, origin=found.origin or origin)
            return found
        finally:
            del self._under_way[name]
            mine.set_result(told)

    async def _found_or_made(
        self,
        name: str,
        cache: Cache,
        origin: Origin,
        make: Callable[[], Awaitable[Outcome]],
        fits: Callable[[Outcome], bool],
    ) -> Outcome:
        wait_s, note = LOOK_FIRST_S, secrets.token_hex(8)
        while True:
            try:
                held = await self._store.get(name)
                kept = _read(held)
                if kept is not None and not kept.by:
                    outcome = Outcome(kept.value, origin=kept.origin)
                    if fits(outcome):
                        self._count("cache_hits")
                        return outcome
                    kept = None
                if kept is None:
                    after = held.revision if held is not None else 0
                    revision = await self._store.put(
                        name, encode(_Kept(1, by=note)), after=after, ttl_s=NOTE_S, tags=cache.tags
                    )
                    if revision is not None:
                        break
            except BusError as error:
                _log.debug("the cache cannot be used", name=name, error=str(error))
                return await make()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LOOK_LAST_S)
        self._count("cache_misses")
        return await self._made(_Claim(self._store, name, cache, note, revision), origin, make)

    async def _made(self, claim: "_Claim", origin: Origin, make: Callable[[], Awaitable[Outcome]]) -> Outcome:
        renewing, shared = asyncio.create_task(claim.renew()), False
        try:
            made = await make()
            shared = made.failure is None
        finally:
            renewing.cancel()
            if not shared:
                self._later(claim.give_up())
        if shared:
            await asyncio.wait((renewing,))
            await claim.fill(_Kept(1, made.value, origin))
        return made

    def _later(self, ending: Coroutine[Any, Any, None]) -> None:
        """In a task of its own: whoever is cancelled does not wait for it."""
        task = asyncio.create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class _Claim:
    """The right to make a result, as long as the note lies there."""

    def __init__(self, store: Store, name: str, cache: Cache, note: str, revision: int) -> None:
        self._store = store
        self._name = name
        self._cache = cache
        self._note = note
        self._revision: int | None = revision

    async def renew(self) -> None:
        """Keeps the note there until cancelled, or until it was lost."""
        while self._revision is not None:
            await asyncio.sleep(RENEW_S)
            await self._put(encode(_Kept(1, by=self._note)), NOTE_S)

    async def fill(self, kept: _Kept) -> None:
        """Puts the result in place of the note, unless that was lost: purged, or run out."""
        await self._put(encode(kept), self._cache.ttl_s)

    async def give_up(self) -> None:
        """Lets the next one try."""
        if self._revision is not None:
            try:
                await self._store.drop(self._name, self._revision)
            except BusError as error:
                _log.debug("a note in the cache stays until it runs out", name=self._name, error=str(error))

    async def _put(self, data: bytes, ttl_s: float) -> None:
        if self._revision is None:
            return
        try:
            self._revision = await self._store.put(
                self._name, data, after=self._revision, ttl_s=ttl_s, tags=self._cache.tags
            )
        except BusError as error:
            _log.debug("a result is not shared", name=self._name, error=str(error))


def _read(held: Held | None) -> _Kept | None:
    """What is held; None where it is nothing that this build reads."""
    if held is None:
        return None
    try:
        kept = decode(held.data, _Kept)
    except ValueError:
        return None
    return kept if kept.v == 1 else None
