"""The benchmark of durable timers that are due at once: how late they reach their owner.

``timers`` is the line of ``regrow bench``; ``fire`` is one measurement, for ``bench/timers_due.py`` as well. Their floor is as many
message schedules of the server, set with nats-py and taken by one consumer.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from nats.aio.client import Client

from regrow.actors import Actor, Event, Kind, Message, Node, Policy, System, command, event, query
from regrow.bench.plan import Plan, compare
from regrow.bench.raw import RawLog, Refused
from regrow.bench.result import Measured
from regrow.bench.sample import Sample, quantile, sample
from regrow.bench.stage import APP, stage
from regrow.bench.watched import WatchedBus
from regrow.bus import Bus, BusError, Delivery, encode
from regrow.bus.headers import TIMER
from regrow.bus.timers import schedule

OWNERS = 100
NAMES = 20
"""Timers of each owner in the line of ``regrow bench``."""
LEAD_S = 1.0
"""Between the first timer that is set and the time when all are due; less where there is less to set."""
LEAD_MIN_S = 0.2
SETS_AT_ONCE = 100
POLL_S = 0.1
"""Between two looks at how much is recorded, each of which asks the server about every log stream: seldom, lest it makes what is
measured late."""
ARRIVE_TIMEOUT_S = 120.0
_STREAM = "RAW_TIMERS"
_SUBJECT = "raw_timers"


class Set(Message[int]):
    """Sets timers, all due at the same time; is answered with how many have fired so far."""

    due_ms: int
    names: list[str]


class Fire(Message[int]):
    """What a timer says."""

    name: str


class Fired(Message[list[str]]):
    """Asks for the names of all timers that have fired, in their order."""


class Rang(Event):
    """A timer has fired."""

    name: str


class Owner(Actor, kind="bench_owner"):
    """Has timers, and remembers which have fired."""

    fired: list[str] = []

    @command
    async def set(self, msg: Set) -> int:
        for name in msg.names:
            self.set_timer(name, Fire(name=name), at=datetime.fromtimestamp(msg.due_ms / 1000, UTC))
        return len(self.fired)

    @command
    async def fire(self, msg: Fire) -> int:
        self.emit(Rang(name=msg.name))
        return len(self.fired)

    @query
    async def show(self, msg: Fired) -> list[str]:
        return self.fired

    @event
    def rang(self, fact: Rang) -> None:
        self.fired.append(fact.name)


class Firing(msgspec.Struct, frozen=True):
    """What became of timers that were due at once."""

    late_ms: Sample
    """From the due time until a timer reached its owner, whatever came again left out."""
    set_s: float
    """How long it took to set all of them."""
    recorded_s: float
    """From the due time until the turns of all were recorded."""
    twice: int
    """Timers whose turn was recorded more than once."""
    lost: int
    """Timers whose turn was never recorded."""


class Arrivals:
    """When each timer first reached its owner."""

    def __init__(self) -> None:
        self.first_ns: dict[tuple[str, str], int] = {}

    def see(self, delivery: Delivery) -> None:
        """For ``WatchedBus``."""
        name = delivery.headers.get(TIMER)
        if name is not None:
            self.first_ns.setdefault((delivery.address.key, name), time.time_ns())


class Clockwork:
    """Owners of timers on a bus."""

    def __init__(self, bus: Bus) -> None:
        self._arrivals = Arrivals()
        self.bus = WatchedBus(bus, self._arrivals.see)
        never = Policy(snapshot_every=10**9, snapshot_distance=10**9)  # the records of the turns are counted
        self.system = System(APP, [Kind(actor=Owner, policy=never, idle_max=10**9, idle_after_s=86_400.0)])
        self._round = 0

    async def fire(
        self, node: Node, owners: int, names: int, lead_s: float, at_due: Callable[[], Awaitable[None]] | None = None
    ) -> Firing:
        """Sets the timers of new owners, lets all be due at once, and says what became of them.

        ``lead_s``: from now until they are due, which has to be enough to set them. ``at_due`` is done at that time.
        """
        self._round += 1
        self._arrivals.first_ns.clear()
        keys = [f"{self._round}-{number}" for number in range(owners)]
        before = await self.bus.count_records()
        begun_ns = time.time_ns()
        due_ms = begun_ns // 1_000_000 + int(lead_s * 1000)
        await self._set(node, keys, names, due_ms)
        set_s = (time.time_ns() - begun_ns) / 1e9
        await asyncio.sleep(max(0.0, due_ms / 1000 - time.time()))
        if at_due is not None:
            await at_due()
        async with asyncio.timeout(ARRIVE_TIMEOUT_S):
            while await self._records() < before + owners * (names + 1):  # noqa: ASYNC110 # the server tells nobody
                await asyncio.sleep(POLL_S)
        recorded_s = time.time() - due_ms / 1000
        late_ms = [(at_ns / 1e6 - due_ms) for at_ns in self._arrivals.first_ns.values()]
        fired = Counter([name for key in keys for name in await node.ref(Owner, key).ask(Fired())])
        twice = sum(count > 1 for count in fired.values())
        return Firing(sample(late_ms), round(set_s, 3), round(recorded_s, 3), twice, owners * names - len(fired))

    async def _set(self, node: Node, keys: list[str], names: int, due_ms: int) -> None:
        """Returns once every schedule is with the server: a second message waits for what the first turn let out."""
        free = asyncio.Semaphore(SETS_AT_ONCE)

        async def set_one(key: str) -> None:
            async with free:
                owner = node.ref(Owner, key)
                await owner.ask(Set(due_ms=due_ms, names=[f"{key}-{number}" for number in range(names)]))

        async with asyncio.TaskGroup() as tasks:
            for key in keys:
                tasks.create_task(set_one(key))

    async def _records(self) -> int:
        try:
            return await self.bus.count_records()
        except BusError:  # the server is not back yet
            return 0


class RawTimers:
    """The floor: message schedules of a stream of its own, and one consumer that takes what they become."""

    def __init__(self, client: Client, raw: RawLog) -> None:
        self._client = client
        self._raw = raw
        self._arrived_ns: list[int] = []
        self._round = 0

    async def prepare(self) -> None:
        """Makes stream and consumer. Raises ``Refused``."""
        subject = f"deliver_{_SUBJECT}"
        await self._client.subscribe(subject, cb=self._receive, pending_msgs_limit=0, pending_bytes_limit=0)
        stream = {"name": _STREAM, "subjects": [f"{_SUBJECT}.>"], "storage": "file", "allow_msg_schedules": True}
        await self._call(f"STREAM.CREATE.{_STREAM}", stream)
        consumer = {
            "name": "raw",
            "filter_subject": f"{_SUBJECT}.due",
            "deliver_subject": subject,
            "ack_policy": "none",
        }
        await self._call(f"CONSUMER.CREATE.{_STREAM}.raw.{_SUBJECT}.due", {"stream_name": _STREAM, "config": consumer})

    async def fire(self, count: int, lead_s: float) -> list[float]:
        """How late each arrived, in milliseconds."""
        self._round += 1
        self._arrived_ns.clear()
        due_ns = time.time_ns() + int(lead_s * 1e9)
        await self._set(count, due_ns)
        async with asyncio.timeout(ARRIVE_TIMEOUT_S):
            while len(self._arrived_ns) < count:  # noqa: ASYNC110 # what arrives is only counted
                await asyncio.sleep(POLL_S)
        return [(at_ns - due_ns) / 1e6 for at_ns in self._arrived_ns]

    async def _set(self, count: int, due_ns: int) -> None:
        numbers = iter(range(count))

        async def some() -> None:
            for number in numbers:
                subject = f"{_SUBJECT}.set.{self._round}.{number}"
                await self._raw.publish(subject, encode(number), schedule(due_ns, f"{_SUBJECT}.due"))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(SETS_AT_ONCE):
                tasks.create_task(some())

    async def _receive(self, _: object) -> None:
        self._arrived_ns.append(time.time_ns())

    async def _call(self, verb: str, body: dict[str, Any]) -> None:
        answer = await self._raw.request(f"$JS.API.{verb}", encode(body))
        if b'"error"' in answer:
            raise Refused(answer.decode())


async def timers(plan: Plan) -> list[Measured]:
    """``timer_late_p99_ms``: timers of many owners, all due at once, from the due time until they reach their owners."""
    owners, lead_s = plan.count(OWNERS), max(LEAD_MIN_S, LEAD_S * plan.scale)
    async with stage("process") as here:
        clockwork, raw = Clockwork(here.bus), RawTimers(here.client, here.raw)
        await raw.prepare()
        async with clockwork.system.host(clockwork.bus) as node:

            async def ours() -> float:
                return (await clockwork.fire(node, owners, NAMES, lead_s)).late_ms.p99

            async def floor() -> float:
                return quantile(await raw.fire(owners * NAMES, lead_s), 0.99)

            found = await compare(plan, "timers", "timer_late_p99_ms", "ms", ours, floor, better="lower")
    return [found]
