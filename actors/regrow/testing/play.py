"""One run of a scenario on a stage: a server in memory, clients that stay, and processes that host the application in turn."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from regrow.actors import System
from regrow.bus import Bus, MemoryBus
from regrow.testing.due import Due
from regrow.testing.ending import Ending, View, as_json, dead_letters_of, states_of
from regrow.testing.ledger import Ledger
from regrow.testing.life import Life
from regrow.testing.mortal_bus import MortalBus
from regrow.testing.outside import Outside
from regrow.testing.points import Point, Tally
from regrow.testing.stage import Stage

Scenario = Callable[[Outside], Awaitable[object]]

LOOK_S = 0.05


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """What is played, and how long everybody has patience."""

    system: Callable[[], System]
    """Makes the application, once for each run: what its ports hold is outside of the processes, and outlives them."""
    bus: Callable[[str], MemoryBus]
    scenario: Scenario
    view: View
    patience_s: float
    """Virtual time until whoever waits is said to wait for ever."""
    settle_s: float
    """Timers that are due later than this after the scenario's end are not waited for."""


class NeverEnds(TimeoutError):
    """Somebody waits for something that does not come."""

    def __init__(self, waiting: str, again: Sequence[str]) -> None:
        super().__init__(waiting)
        self.sentences = (waiting, *again)
        """What is waited for, and which steps ran although the log had their outcome."""


class GaveUp(RuntimeError):
    """The system could not be kept running."""


class Run(msgspec.Struct, frozen=True):
    """How a play ended."""

    ending: Ending
    tally: Tally
    reached: bool
    """Whether the death took place."""


async def play(what: Play, stage: Stage, doom: Point | None = None) -> Run:
    """Plays the scenario, with one death or two. Raises ``NeverEnds`` and ``GaveUp``."""
    made = what.system().checked()
    server, due = what.bus(made.name), Due()
    tally, ledger, outside = Tally(keep=doom is None), Ledger(), Outside(server)
    acting = stage.create_task(_act(what, outside))
    lives: list[Life] = []
    try:
        async with asyncio.timeout(what.patience_s + what.settle_s):
            while not lives or lives[-1].dead:
                lives.append(Life(stage, tally, ledger, due, _doom(len(lives), doom)))
                await _live(lives[-1], stage, made, server, _settled(what, acting, server, due))
            ending = Ending(
                result=acting.result(),
                states=await states_of(server, made, what.view),
                replies=dict(outside.replies),
                dead_letters=await dead_letters_of(server),
                ran=dict(ledger.ran),
                in_flight=dict(ledger.in_flight),
                again=list(ledger.again),
            )
            return Run(ending, tally, len(lives) > 1)
    except TimeoutError:
        raise NeverEnds(_waiting(what, server), ledger.again) from None
    finally:
        acting.cancel()
        stage.is_over()
        for life in lives:
            await life.sweep()


def _doom(earlier: int, doom: Point | None) -> Point | int | None:
    """When a process dies that has had so many before it."""
    if doom is None or earlier == 0:
        return doom
    return doom.then if earlier == 1 else None


async def _live(life: Life, stage: Stage, system: System, server: MemoryBus, end: Coroutine[Any, Any, None]) -> None:
    """One process, until it dies or nothing is left to do. Raises ``GaveUp`` when it ends by itself."""
    with stage.playing(life):
        hosting = stage.create_task(_host(system, MortalBus(server, life)))
    died, ended = stage.create_task(life.died.wait()), stage.create_task(end)
    try:
        await asyncio.wait((hosting, died, ended), return_when=asyncio.FIRST_COMPLETED)
    finally:
        died.cancel()
        ended.cancel()
    if life.dead:
        await life.disconnect()
    elif hosting.done():
        raise GaveUp(f"the system cannot be kept running: {hosting.exception()!r}")


async def _host(system: System, bus: Bus) -> None:
    async with system.host(bus) as node:
        await node.wait_stopped()


async def _act(what: Play, outside: Outside) -> Any:
    """The scenario's result, be it what it raises."""
    try:
        return as_json(await what.scenario(outside))
    except Exception as error:  # the edge to the user's scenario: what it raises is compared
        return {"raised": [type(error).__name__, str(error)]}


async def _settled(what: Play, acting: "asyncio.Task[Any]", server: MemoryBus, due: Due) -> None:
    """Returns once the scenario is over and nothing is under way any more."""
    await asyncio.wait((acting,))
    until_ns = time.time_ns() + int(what.settle_s * 1e9)
    pause_s: float | None = LOOK_S
    while pause_s is not None:  # what a mailbox holds can only be looked at
        await asyncio.sleep(pause_s)
        waits = server.mail.waiting("in") or server.mail.waiting("act")
        pause_s = LOOK_S if waits else due.next_s(until_ns)


def _waiting(what: Play, server: MemoryBus) -> str:
    mail = [str(each.address) for each in server.mail.letters()]
    who = f"; unhandled mail: {', '.join(sorted(set(mail))[:10])}" if mail else "; no mail waits"
    return f"not over after {what.patience_s + what.settle_s:g} s of virtual time{who}"
