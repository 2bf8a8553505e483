"""Results that tools share: one makes them, others wait or find them, and no replay looks."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest

from regrow.actors import Actor, Cache, DefinitionError, Kind, Message, System, command, step, tool
from regrow.actors.records import Origin, Outcome, Record, Steps
from regrow.actors.records import Step as Recorded
from regrow.actors.shared import SharedResults
from regrow.bus import Address, Bus, MemoryBus, Unreachable, decode
from regrow.bus.cache import Held
from regrow.bus.memory_cache import MemoryCache

pytestmark = pytest.mark.asyncio

RAN = Counter[str]()
GATE = asyncio.Event()
BROKEN = set[str]()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    RAN.clear()
    BROKEN.clear()
    yield


@tool(cache=Cache(ttl="1h", tags=("prices",)))
async def price(item: str) -> int:
    RAN[item] += 1
    await asyncio.sleep(0.01)
    if item in BROKEN:
        raise ConnectionError("no answer")
    return len(item)


@tool(cache=Cache(ttl="1h", scope="session"))
async def mine(item: str) -> int:
    RAN[item] += 1
    return RAN[item]


class Price(Message[list[int]]):
    items: list[str]


class Mine(Message[int]):
    pass


class Forecast(Message[str]):
    pass


class Shop(Actor):
    @command
    async def price(self, msg: Price) -> list[int]:
        return await asyncio.gather(*(price(item) for item in msg.items))

    @command
    async def mine(self, msg: Mine) -> int:
        return await mine("x")

    @command
    async def forecast(self, msg: Forecast) -> str:
        async def ask() -> str:
            RAN["forecast"] += 1
            return "rain"

        found: str = await step("forecast", {"town": "Bonn"}, ask, str, cache=Cache(ttl="10m"))
        return found


APP = System("shop", [Kind(actor=Shop)])


async def recorded(bus: Bus, key: str) -> list[Recorded]:
    entries = [decode(each.data, Record).entries for each in await bus.log.read(Address("shop", key))]
    return [one for found in entries for entry in found if isinstance(entry, Steps) for one in entry.steps]


async def test_equal_calls_of_different_actors_and_tasks_run_the_tool_once() -> None:
    async with APP.host(MemoryBus("shop")) as node:
        asks = [node.ref(Shop, str(number)).ask(Price(items=["brie", "brie", "salt"])) for number in range(10)]
        assert await asyncio.gather(*asks) == [[4, 4, 4]] * 10
        assert RAN == {"brie": 1, "salt": 1}
        assert (node.host.statistics["cache_misses"], node.host.statistics["cache_hits"]) == (2, 28)


async def test_a_result_out_of_the_cache_is_recorded_with_who_made_it() -> None:
    bus = MemoryBus("shop")
    async with APP.host(bus) as node:
        await node.ref(Shop, "a").ask(Price(items=["brie"]))
        await node.ref(Shop, "b").ask(Price(items=["brie"]))
    (made,), (found,) = await recorded(bus, "a"), await recorded(bus, "b")
    assert made.outcome.origin is None
    assert found.outcome.origin is not None
    assert (found.outcome.origin.actor, found.outcome.origin.step) == ("shop/a", made.key)
    assert found.outcome.value == made.outcome.value


async def test_another_node_finds_what_the_first_has_made() -> None:
    bus = MemoryBus("shop")
    async with APP.host(bus) as node:
        await node.ref(Shop, "a").ask(Price(items=["brie"]))
    async with APP.host(bus) as node:
        assert await node.ref(Shop, "b").ask(Price(items=["brie"])) == [4]
    assert RAN == {"brie": 1}


async def test_a_failure_is_never_shared() -> None:
    async with APP.host(MemoryBus("shop")) as node:
        BROKEN.add("brie")
        asks = [node.ref(Shop, str(number)).ask(Price(items=["brie"])) for number in range(2)]
        assert all(isinstance(each, Exception) for each in await asyncio.gather(*asks, return_exceptions=True))
        assert RAN["brie"] >= 2
        BROKEN.clear()
        assert await node.ref(Shop, "c").ask(Price(items=["brie"])) == [4]


async def test_the_scope_of_a_session_is_one_actor() -> None:
    async with APP.host(MemoryBus("shop")) as node:
        assert [await node.ref(Shop, "a").ask(Mine()) for _ in range(2)] == [1, 1]
        assert await node.ref(Shop, "b").ask(Mine()) == 2


async def test_any_step_can_be_shared() -> None:
    async with APP.host(MemoryBus("shop")) as node:
        assert [await node.ref(Shop, key).ask(Forecast()) for key in "ab"] == ["rain", "rain"]
    assert RAN["forecast"] == 1


async def test_outside_a_handler_the_tool_just_runs() -> None:
    assert [await price("brie"), await price("brie")] == [4, 4]
    assert RAN["brie"] == 2


async def test_a_new_version_other_arguments_and_another_tool_are_other_names() -> None:
    one = Cache(ttl="1h")
    names = {
        one.name("price", b"{}", "a/1"),
        Cache(ttl="1h", version="2").name("price", b"{}", "a/1"),
        one.name("price", b'{"a":1}', "a/1"),
        one.name("cost", b"{}", "a/1"),
        Cache(ttl="1h", scope="session").name("price", b"{}", "a/1"),
        Cache(ttl="1h", scope="session").name("price", b"{}", "a/2"),
    }
    assert len(names) == 6
    assert one.name("price", b"{}", "a/1") == Cache(ttl="2d").name("price", b"{}", "b/1")
    assert one.name("a call", b"{}", "a/1").startswith("step.")


ORIGIN = Origin("shop/a", "/price/1/0", 1)
HOUR = Cache(ttl="1h")


class Calls:
    """Counts calls, and answers them."""

    def __init__(self, value: bytes = b"4") -> None:
        self.made = 0
        self.begun = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()
        self._value = value

    async def __call__(self) -> Outcome:
        self.made += 1
        self.begun.set()
        await self.free.wait()
        return Outcome(msgspec.Raw(self._value))


def results(store: MemoryCache) -> SharedResults:
    return SharedResults(store, lambda _: None)


def fits(_: Outcome) -> bool:
    return True


async def test_another_process_waits_for_who_is_at_it() -> None:
    store, calls = MemoryCache(), Calls()
    calls.free.clear()
    here, there = results(store), results(store)
    first = asyncio.create_task(here.outcome("price.a", HOUR, ORIGIN, calls, fits))
    await calls.begun.wait()
    second = asyncio.create_task(there.outcome("price.a", HOUR, ORIGIN, calls, fits))
    await asyncio.sleep(0.05)
    calls.free.set()
    assert (await first).origin is None
    assert (await second).origin == ORIGIN
    assert calls.made == 1


async def test_who_is_cancelled_lets_the_next_one_do_it() -> None:
    store, stuck, calls = MemoryCache(), Calls(), Calls()
    stuck.free.clear()
    here, there = results(store), results(store)
    first = asyncio.create_task(here.outcome("price.a", HOUR, ORIGIN, stuck, fits))
    await stuck.begun.wait()
    beside = asyncio.create_task(here.outcome("price.a", HOUR, ORIGIN, calls, fits))
    far = asyncio.create_task(there.outcome("price.a", HOUR, ORIGIN, calls, fits))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await beside).value == (await far).value
    assert calls.made == 1


async def test_a_note_that_was_purged_shares_nothing() -> None:
    store, calls = MemoryCache(), Calls()
    calls.free.clear()
    running = asyncio.create_task(results(store).outcome("price.a", HOUR, ORIGIN, calls, fits))
    await calls.begun.wait()
    (note,) = await store.entries("price")
    await store.drop(note.name, note.revision)
    calls.free.set()
    assert bytes((await running).value) == b"4"
    assert await store.entries() == []


async def test_what_does_not_fit_any_more_is_made_anew() -> None:
    store, old, new = MemoryCache(), Calls(), Calls(b'"four"')
    await results(store).outcome("price.a", HOUR, ORIGIN, old, fits)
    found = await results(store).outcome("price.a", HOUR, ORIGIN, new, lambda each: bytes(each.value) == b'"four"')
    assert (bytes(found.value), old.made, new.made) == (b'"four"', 1, 1)
    again = await results(store).outcome("price.a", HOUR, ORIGIN, new, fits)
    assert (bytes(again.value), new.made) == (b'"four"', 1)


@pytest.mark.parametrize("held", [b"", b"{}", b'{"v": 2, "value": 1}', b"\xff"])
async def test_what_nobody_can_read_is_made_anew(held: bytes) -> None:
    store, calls = MemoryCache(), Calls()
    await store.put("price.a", held, after=0, ttl_s=60)
    assert bytes((await results(store).outcome("price.a", HOUR, ORIGIN, calls, fits)).value) == b"4"
    assert calls.made == 1


class Away(MemoryCache):
    """A cache that nobody reaches."""

    async def get(self, name: str) -> Held | None:
        raise Unreachable("here")


async def test_without_the_cache_the_call_is_made() -> None:
    calls = Calls()
    assert bytes((await results(Away()).outcome("price.a", HOUR, ORIGIN, calls, fits)).value) == b"4"
    assert calls.made == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ttl": "7"}, "cache ttl='7': write \"30s\""),
        ({"ttl": "0.2s"}, 'at least "1s"'),
        ({"ttl": "1h", "scope": "user"}, "cache scope='user': write"),
        ({"ttl": "1h", "tags": ("a b",)}, "the cache tag 'a b': use letters"),
    ],
)
async def test_what_could_not_work_is_refused_when_the_tool_is_made(options: dict[str, object], said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        tool(cache=Cache(**options))(nothing)  # type: ignore[arg-type]
    assert said in str(caught.value)


async def test_a_tool_that_may_run_once_has_no_cache() -> None:
    with pytest.raises(DefinitionError, match='has a cache and effect="once"'):
        tool(cache=HOUR, effect="once")(nothing)


async def nothing() -> None: ...
