"""The benchmark of turns. Its floor appends the very records that the actors wrote."""

from collections.abc import Awaitable, Callable
from functools import partial

from regrow.actors import Kind, Ref, System
from regrow.bench.actors import Add, Counter
from regrow.bench.plan import Plan, compare, times_us
from regrow.bench.result import Measured
from regrow.bench.stage import APP, Stage, stage
from regrow.bus import Address, encode
from regrow.bus.server import Durability

TURNS: dict[Durability, int] = {"process": 200, "disk": 60}
SUFFIXES: dict[Durability, str] = {"process": "_us", "disk": "_fsync_us"}

Act = Callable[[], Awaitable[None]]

_ONE = Add(amount=1)
_ONE_JSON = encode(_ONE)


async def turn(plan: Plan) -> list[Measured]:
    """``turn_us``, ``turn_fsync_us``: asks of one durable actor from its own process, one after the other.
    ``turn_remote_us``, ``turn_remote_fsync_us``: such asks from another connection, as any NATS client sends them.

    The floor is one append each, of the record that such a turn writes.
    """
    found: list[Measured] = []
    for durability, suffix in SUFFIXES.items():
        count = plan.count(TURNS[durability])
        async with stage(durability) as here, System(APP, [Kind(actor=Counter)]).host(here.bus) as node:
            inside = node.ref(Counter, "inside")
            outside = here.bus.subjects.ask(Address(Counter.__regrow__.kind, "outside"))
            await inside.ask(_ONE)
            await here.raw.request(outside, _ONE_JSON)

            async def ask(inside: Ref = inside) -> None:
                await inside.ask(_ONE)

            async def request(here: Stage = here, outside: str = outside) -> None:
                assert (await here.raw.request(outside, _ONE_JSON)).isdigit()

            ways: list[tuple[str, str, Act]] = [("turn", "inside", ask), ("turn_remote", "outside", request)]
            for way, key, act in ways:
                ours, floor = partial(times_us, act, count), partial(times_us, await _appends(here, key), count)
                found.append(await compare(plan, "turn", f"{way}{suffix}", "us", ours, floor, better="lower"))
    return found


async def _appends(here: Stage, like: str) -> Act:
    """One raw append of the record that the last turn of this counter wrote, again and again to one log."""
    data = (await _records(here, Address(Counter.__regrow__.kind, like)))[-1]
    subject = here.bus.subjects.log(Address("bench_raw", like))
    last = 0

    async def append() -> None:
        nonlocal last
        last = await here.raw.append(subject, data, last)

    return append


async def _records(here: Stage, address: Address) -> list[bytes]:
    return [stored.data for stored in await here.bus.log.read(address)]
