"""A bus whose user may die at any operation: the port, with every operation that changes something counted on its way."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar

from regrow.bus import Address, Bus, Delivery, Request
from regrow.bus.cache import Cache, Held
from regrow.bus.headers import Headers
from regrow.bus.port import Attempted, Buried, DeadLetters, EventLog, Followed, Holding, Mail, Receive, Stored
from regrow.bus.subjects import Box, Subjects
from regrow.bus.timers import EVERY
from regrow.testing.due import Due
from regrow.testing.points import What

T = TypeVar("T")


class Living(Protocol):
    """The process that uses the bus."""

    due: Due

    async def around(self, what: What, about: str, call: Callable[[], Awaitable[T]]) -> T:
        """The operation's result, unless the process dies before it, or after it."""
        ...

    def attempt(self, about: str, call: Callable[[Attempted], None], done: Attempted) -> None:
        """The same for an append that nobody awaits."""
        ...

    async def apart(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of an operation that changes nothing, so that dying beside it is dying anywhere."""
        ...

    def hears(self, callback: Callable[[T], None]) -> Callable[[T], None]:
        """The callback for as long as the process lives."""
        ...

    def held(self, connection: AbstractAsyncContextManager[T]) -> AbstractAsyncContextManager[T]:
        """Something that the server keeps for the process, and ends by itself when that dies."""
        ...

    def recorded(self, address: Address, data: bytes) -> None:
        """A record was stored."""
        ...

    def about(self, data: bytes) -> str:
        """What a record holds, in a few words."""
        ...


class MortalBus:
    """The application's bus as one process sees it."""

    def __init__(self, bus: Bus, life: Living) -> None:
        self.subjects: Subjects = bus.subjects
        self.epoch: str = bus.epoch
        self.log: EventLog = MortalLog(bus.log, life)
        self.mail: Mail = MortalMail(bus.mail, life)
        self.dead: DeadLetters = MortalDeadLetters(bus.dead, life)
        self.cache: Cache = MortalCache(bus.cache, life)
        self._bus = bus
        self._life = life

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        await self._life.around("publish", subject, lambda: self._bus.publish(subject, body, headers))

    async def request(self, subject: str, body: bytes, headers: Headers | None = None, *, timeout_s: float) -> Request:
        return await self._life.apart(lambda: self._bus.request(subject, body, headers, timeout_s=timeout_s))

    async def count_records(self) -> int:
        return await self._life.apart(self._bus.count_records)

    def serve(
        self, subject: str, handler: Callable[[Request], None], *, queue: str = ""
    ) -> AbstractAsyncContextManager[None]:
        return self._life.held(self._bus.serve(subject, self._life.hears(handler), queue=queue))

    def expect_reply(self, on_reply: Callable[[Request], None]) -> AbstractAsyncContextManager[str]:
        return self._life.held(self._bus.expect_reply(self._life.hears(on_reply)))


class MortalLog:
    """The event logs as one process sees them."""

    def __init__(self, log: EventLog, life: Living) -> None:
        self._log = log
        self._life = life

    async def append(self, address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        async def store() -> int:
            sequence = await self._log.append(address, data, rid=rid, after=after, rollup=rollup)
            self._life.recorded(address, data)
            return sequence

        return await self._life.around("append", f"{address} {self._life.about(data)}", store)

    def attempt(self, address: Address, data: bytes, *, rid: str, after: int, done: Attempted) -> None:
        def store(done: Attempted) -> None:
            def stored(sequence: int | None) -> None:
                if sequence is not None:
                    self._life.recorded(address, data)
                done(sequence)

            self._log.attempt(address, data, rid=rid, after=after, done=stored)

        self._life.attempt(f"{address} {self._life.about(data)}", store, done)

    async def read(self, address: Address, after: int = 0) -> list[Stored]:
        return await self._life.apart(lambda: self._log.read(address, after))

    async def save(self, address: Address, data: bytes, covers: int) -> None:
        await self._life.around("save", str(address), lambda: self._log.save(address, data, covers))

    async def saved(self, address: Address) -> Stored | None:
        return await self._life.apart(lambda: self._log.saved(address))

    async def addresses(self, kind: str | None = None) -> list[Address]:
        return await self._life.apart(lambda: self._log.addresses(kind))

    def follow(self, kind: str, after: Mapping[int, int]) -> AsyncIterator[Followed]:
        return self._log.follow(kind, after)

    async def forget(self, address: Address) -> None:
        await self._life.around("remove", f"{address} beside its log", lambda: self._log.forget(address))


class MortalMail:
    """The mailboxes as one process sees them."""

    def __init__(self, mail: Mail, life: Living) -> None:
        self._mail = mail
        self._life = life

    async def post(
        self, box: Box, address: Address, body: bytes, headers: Headers | None = None, *, message_id: str | None = None
    ) -> int:
        return await self._life.around(
            "post", f"{box} {address}", lambda: self._mail.post(box, address, body, headers, message_id=message_id)
        )

    async def schedule(
        self, address: Address, timer: str, body: bytes, headers: Headers | None = None, *, at_ns: int
    ) -> None:
        async def set_it() -> None:
            await self._mail.schedule(address, timer, body, headers, at_ns=at_ns)
            self._life.due.set(address, timer, at_ns)

        await self._life.around("schedule", f"{address} {timer}", set_it)

    async def unschedule(self, address: Address, timer: str) -> None:
        async def end_it() -> None:
            await self._mail.unschedule(address, timer)
            self._life.due.drop(address, timer)

        await self._life.around("unschedule", f"{address} {timer}", end_it)

    async def purge(self, address: Address) -> None:
        async def empty() -> None:
            await self._mail.purge(address)
            self._life.due.drop(address, EVERY)

        await self._life.around("remove", f"{address} mail", empty)

    @asynccontextmanager
    async def serve(self, receive: Receive, lost: Callable[[int], None]) -> AsyncGenerator[Holding]:
        def take(delivery: Delivery) -> None:
            receive(MortalDelivery(delivery, self._life))

        hears, loses = self._life.hears(take), self._life.hears(lost)
        async with self._life.held(self._mail.serve(hears, loses)) as holding:
            yield MortalHolding(holding, self._life)


class MortalHolding:
    """The shards that one process serves."""

    def __init__(self, holding: Holding, life: Living) -> None:
        self._holding = holding
        self._life = life

    async def take_over(self) -> None:
        await self._life.apart(self._holding.take_over)

    async def holds(self, shard: int) -> bool:
        return await self._life.apart(lambda: self._holding.holds(shard))


class MortalDelivery:
    """A message that one process was handed."""

    def __init__(self, delivery: Delivery, life: Living) -> None:
        self.box: Box = delivery.box
        self.address = delivery.address
        self.sequence = delivery.sequence
        self.suspect = delivery.suspect
        self._delivery = delivery
        self._life = life

    @property
    def headers(self) -> Headers:
        return self._delivery.headers

    @property
    def body(self) -> bytes:
        return self._delivery.body

    def shed(self) -> None:
        self._delivery.shed()

    async def fetch(self) -> bool:
        return await self._life.apart(self._delivery.fetch)

    async def ack(self) -> None:
        await self._life.around("ack", f"{self.box} {self.address} {self.sequence}", self._delivery.ack)


class MortalDeadLetters:
    """The dead letters as one process sees them."""

    def __init__(self, dead: DeadLetters, life: Living) -> None:
        self._dead = dead
        self._life = life

    async def bury(self, address: Address, body: bytes, *, message_id: str, brief: bytes = b"") -> None:
        await self._life.around(
            "bury", str(address), lambda: self._dead.bury(address, body, message_id=message_id, brief=brief)
        )

    async def find(
        self, kind: str | None = None, key: str | None = None, *, after: int = 0, limit: int = 1_000
    ) -> list[Buried]:
        return await self._life.apart(lambda: self._dead.find(kind, key, after=after, limit=limit))

    async def get(self, sequence: int) -> Buried | None:
        return await self._life.apart(lambda: self._dead.get(sequence))

    async def drop(self, sequence: int) -> bool:
        return await self._life.around("remove", f"dead letter {sequence}", lambda: self._dead.drop(sequence))


class MortalCache:
    """The cache as one process sees it."""

    def __init__(self, cache: Cache, life: Living) -> None:
        self._cache = cache
        self._life = life

    async def get(self, name: str) -> Held | None:
        return await self._life.apart(lambda: self._cache.get(name))

    async def put(self, name: str, data: bytes, *, after: int, ttl_s: float, tags: tuple[str, ...] = ()) -> int | None:
        return await self._life.around(
            "cache", name, lambda: self._cache.put(name, data, after=after, ttl_s=ttl_s, tags=tags)
        )

    async def drop(self, name: str, revision: int) -> None:
        await self._life.around("cache", name, lambda: self._cache.drop(name, revision))

    async def entries(self, group: str | None = None) -> list[Held]:
        return await self._life.apart(lambda: self._cache.entries(group))
