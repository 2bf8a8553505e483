"""An agent of some twenty steps: gather, a race, a timeout, a group of tasks, threads, retries, asks, sends, a timer, and a booking.

The booking may be made only once: the desk where it is made is a file, outside of every process and of the runtime.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from regrow.actors import (
    Actor,
    Event,
    Kind,
    Message,
    NotDone,
    Policy,
    Refused,
    Retry,
    StepFailed,
    System,
    command,
    event,
    tool,
)
from regrow.supervisor import Backoff
from regrow.testing import Outside

DESK = "REGROW_CRASH_DESK"
"""The environment variable by which the processes that a run starts find its desk."""
os.environ.setdefault(DESK, str(Path(tempfile.gettempdir()) / f"regrow-crash-desk-{os.getpid()}"))


class NoRoute(Exception):
    pass


class Plan(Message[list[str]]):
    trip: int


class Price(Message[int]):
    of: str


class Priced(Event):
    of: str


class Booked(Event):
    found: list[str]


class Confirm(Message[None]):
    trip: int


class Tell(Message[None]):
    what: str


@tool(pure=True)
async def look(place: str, after_s: float) -> str:
    await asyncio.sleep(after_s)
    return place.upper()


@tool
async def choose(among: list[str]) -> str:
    return max(among)


@tool
def weigh(what: str) -> int:
    return len(what)


@tool(raises=(NoRoute,))
async def route(to: str) -> str:
    if to == "NOWHERE":
        raise NoRoute(to)
    return f"via {to}"


@tool(retry=Retry(attempts=2, backoff=Backoff(first_s=0.01)))
async def flaky(what: str) -> str:
    raise OSError(f"no line to {what}")


async def booked_already(trip: int) -> str:
    if f"trip {trip}" not in bookings():
        raise NotDone
    return f"booked {trip}"


@tool(effect="once", verify=booked_already)
async def book(trip: int) -> str:
    with desk().open("a", encoding="utf-8") as file:
        file.write(f"trip {trip}\n")
    await asyncio.sleep(0.01)
    return f"booked {trip}"


def bookings() -> list[str]:
    """What was booked, each time that it was."""
    return desk().read_text(encoding="utf-8").splitlines()


def desk() -> Path:
    """Where it is booked."""
    return Path(os.environ[DESK])


class Shop(Actor):
    """Who is asked."""

    asked: list[str] = []

    @command
    async def price(self, msg: Price) -> int:
        if msg.of == "moon":
            raise Refused("not for sale", of=msg.of)
        weight = await weigh(msg.of)
        self.emit(Priced(of=msg.of))
        return weight * 100

    @event
    def priced(self, fact: Priced) -> None:
        self.asked.append(fact.of)


class Diary(Actor, persist="fields"):
    """Who is told."""

    lines: list[str] = []

    @command
    async def tell(self, msg: Tell) -> None:
        self.lines.append(msg.what)


class Planner(Actor):
    """Who plans."""

    found: list[str] = []

    @command
    async def plan(self, msg: Plan) -> list[str]:
        places = list(await asyncio.gather(*(look(f"{msg.trip}-{place}", 0.03 / (1 + place)) for place in range(3))))
        winner = await self._race()
        late = await self._in_time()
        best = await choose([*places, winner])
        async with asyncio.TaskGroup() as tasks:
            weights = [tasks.create_task(weigh(place)) for place in places]
            routes = tasks.create_task(self._routes(best))
        priced = await self._prices(best)
        booked = await book(msg.trip)
        done = [await each for each in asyncio.as_completed([look("x", 0.02), look("y", 0.01)])]
        weighed = [str(each.result()) for each in weights]
        found = [*places, winner, late, *routes.result(), *weighed, *priced, booked, *done]
        self.emit(Booked(found=found))
        self.send(self.ref(Diary, "all"), Tell(what=f"planned {msg.trip}"))
        self.set_timer("confirm", Confirm(trip=msg.trip), after_s=1)
        return found

    @command
    async def confirm(self, msg: Confirm) -> None:
        answer = await choose([str(msg.trip), "yes"])
        self.emit(Booked(found=[answer]))
        self.send(self.ref(Diary, "all"), Tell(what=f"confirmed {msg.trip}"))

    @event
    def booked(self, fact: Booked) -> None:
        self.found.extend(fact.found)

    async def _race(self) -> str:
        racers = [asyncio.create_task(look(name, after_s)) for name, after_s in (("slow", 5.0), ("fast", 0.01))]
        done, pending = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for each in pending:
            each.cancel()
        await asyncio.wait(racers)
        return done.pop().result()

    async def _in_time(self) -> str:
        try:
            async with asyncio.timeout(0.01):
                return await look("late", 9.0)
        except TimeoutError:
            return "too late"

    async def _routes(self, best: str) -> list[str]:
        found = [await route(best)]
        try:
            found.append(await route("NOWHERE"))
        except NoRoute as none:
            found.append(f"none to {none}")
        try:
            found.append(await flaky(best))
        except StepFailed as failed:
            found.append(failed.message)
        return found

    async def _prices(self, best: str) -> list[str]:
        one, two = await asyncio.gather(
            self.ref(Shop, "one").ask(Price(of=best)), self.ref(Shop, "two").ask(Price(of=f"{best}!"))
        )
        try:
            await self.ref(Shop, "one").ask(Price(of="moon"))
        except Refused as no:
            return [str(one), str(two), no.message]
        return []


app = System(
    "agents",
    actors=[Kind(actor=each, policy=Policy(backoff=Backoff(first_s=0.0))) for each in (Planner, Shop, Diary)],
)


async def scenario(outside: Outside) -> list[str]:
    """What was planned, and what the desk knows of it: one booking."""
    desk().write_text("", encoding="utf-8")
    try:
        return [*await outside.ref(Planner, "p").ask(Plan(trip=1)), *bookings()]
    finally:
        desk().unlink()
