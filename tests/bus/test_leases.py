"""For how long a look proves that a shard is ours, in virtual time."""

import asyncio

import pytest

from regrow.bus.leases import LEASE_S, Leases


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Look:
    """A look that takes time, and finds what it is told."""

    def __init__(self, leases: Leases, clock: Clock, *found: bool, takes_s: float = 0.0) -> None:
        self.count = 0
        self.done = asyncio.Event()
        self._leases = leases
        self._clock = clock
        self._found = list(found)
        self._takes_s = takes_s

    async def __call__(self) -> bool:
        self.count += 1
        since_s = self._leases.now_s()
        await self.done.wait()
        self._clock.now_s += self._takes_s
        self._takes_s = 0.0
        found = self._found.pop(0)
        if found:
            self._leases.prove(3, since_s)
        return found


def test_a_proof_holds_for_the_time_of_a_lease_and_of_its_own_shard() -> None:
    clock = Clock()
    leases = Leases(clock)
    assert not leases.is_proved(3)
    leases.prove(3, clock.now_s)
    clock.now_s += LEASE_S - 0.1
    assert leases.is_proved(3)
    assert not leases.is_proved(4)
    clock.now_s += 0.1
    assert not leases.is_proved(3)


def test_an_older_proof_does_not_shorten_a_newer_one_and_the_end_ends_it() -> None:
    clock = Clock()
    leases = Leases(clock)
    leases.prove(3, clock.now_s)
    leases.prove(3, clock.now_s - LEASE_S)
    leases.prove(4, clock.now_s)
    assert leases.is_proved(3)
    leases.end(3)
    assert not leases.is_proved(3)
    assert leases.is_proved(4)
    leases.end()
    assert not leases.is_proved(4)


@pytest.mark.asyncio
async def test_what_is_proved_costs_no_look() -> None:
    clock = Clock()
    leases = Leases(clock)
    leases.prove(3, clock.now_s)
    look = Look(leases, clock)
    assert await leases.holds(3, look)
    assert look.count == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("found", [True, False])
async def test_all_who_ask_at_once_share_one_look(found: bool) -> None:
    clock = Clock()
    leases = Leases(clock)
    look = Look(leases, clock, found)
    asking = [asyncio.ensure_future(leases.holds(3, look)) for _ in range(10)]
    await asyncio.sleep(0)
    look.done.set()
    assert await asyncio.gather(*asking) == [found] * 10
    assert look.count == 1


@pytest.mark.asyncio
async def test_an_answer_that_comes_when_its_proof_is_over_asks_again() -> None:
    clock = Clock()
    leases = Leases(clock)
    look = Look(leases, clock, True, True, takes_s=LEASE_S)
    look.done.set()
    assert await leases.holds(3, look)
    assert look.count == 2
    assert leases.is_proved(3)


@pytest.mark.asyncio
async def test_who_asks_after_a_look_failed_has_one_of_his_own() -> None:
    clock = Clock()
    leases = Leases(clock)
    look = Look(leases, clock, False, True)
    look.done.set()
    assert not await leases.holds(3, look)
    clock.now_s += 0.1
    assert await leases.holds(3, look)


@pytest.mark.asyncio
async def test_who_looks_may_be_cancelled_and_the_next_one_looks() -> None:
    clock = Clock()
    leases = Leases(clock)
    look = Look(leases, clock, True)
    first = asyncio.ensure_future(leases.holds(3, look))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(leases.holds(3, look))
    await asyncio.sleep(0)
    first.cancel()
    look.done.set()
    assert await second
    assert look.count == 2
