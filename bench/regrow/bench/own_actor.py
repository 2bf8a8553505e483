"""A benchmark of anybody's actor: ``app.py:Counter`` or ``package.module:Counter``, and one message that it is asked with.

A local actor is measured in a ``LocalSystem``, a durable one on an embedded server; a hundred of them are asked at once as well. The
floor of the first is a consumer by hand whose handler does nothing, that of the second raw appends of the very records that its
turn writes, so the ratio says what the handler and the runtime cost together.
"""

import asyncio
import importlib
import importlib.util
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from regrow.actors import Actor, Kind, LocalActor, LocalSystem, Message, System
from regrow.bench.hand_over import HandOver
from regrow.bench.plan import Bench, Plan, compare, rate, times_us
from regrow.bench.result import Measured
from regrow.bench.stage import APP, stage
from regrow.bus import Address, Undecodable

ASKS = {"local": 10_000, "durable": 200}
"""In one measurement."""
AT_ONCE = 100
TIMEOUT_S = 60.0

Act = Callable[[], Awaitable[object]]


class NoSuchActor(ValueError):
    """There is no actor class at a path, or it does not take the message."""


class _Subject(NamedTuple):
    """What is measured: asks of different actors, the floor's calls of as many, and how many of them make one measurement."""

    ours: Sequence[Act]
    floor: Sequence[Act]
    asks: int


def own_actor(path: str, message: str) -> Bench:
    """The benchmark of the actor class at ``path``, asked with the JSON of a message, such as ``{"type": "Add", "amount": 1}``.

    Raises ``NoSuchActor`` with one sentence that says what is missing.
    """
    kind = load_actor(path)
    try:
        asked = kind.__regrow__.decode_message(message.encode())
    except Undecodable as error:
        raise NoSuchActor(f"{path} cannot be asked with --message {message!r}: {error}") from None
    on_stage = _local if issubclass(kind, LocalActor) else _durable

    async def measure(plan: Plan) -> list[Measured]:
        async with on_stage(plan, kind, asked) as subject:  # type: ignore[arg-type]  # the one that fits the kind
            first, least = subject.ours[0], subject.floor[0]
            alone = await compare(
                plan,
                path,
                "ask_p50_us",
                "us",
                partial(times_us, first, subject.asks),
                partial(times_us, least, subject.asks),
                better="lower",
            )
            many = max(AT_ONCE, subject.asks)
            together = await compare(
                plan,
                path,
                "asks_per_s",
                "1/s",
                lambda: rate(partial(_at_once, subject.ours, many), many),
                lambda: rate(partial(_at_once, subject.floor, many), many),
                better="higher",
            )
        return [alone, together]

    return measure


def load_actor(path: str) -> type[Actor] | type[LocalActor]:
    """The class at ``file.py:Name`` or ``module:Name``. Raises ``NoSuchActor``."""
    where, _, name = path.rpartition(":")
    module = _module(where)
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, Actor | LocalActor):
        return found
    actors = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Actor | LocalActor) and value.__module__ == module.__name__
    ]
    there = f"; it has {', '.join(actors)}" if actors else ""
    raise NoSuchActor(f"{where} has no actor class {name!r}{there}")


def _module(where: str) -> ModuleType:
    if not where.endswith(".py"):
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            if error.name is None or not where.startswith(error.name):
                raise
            raise NoSuchActor(f"there is no module {where!r} here or among the installed ones") from None
    file = Path(where)
    if not file.is_file():
        raise NoSuchActor(f"there is no file {where}")
    sys.path.insert(0, str(file.parent.resolve()))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def _local(plan: Plan, kind: type[LocalActor], message: Message[Any]) -> AsyncGenerator[_Subject]:
    async def nothing(_: Message[Any]) -> None:
        """What the floor does with a message."""

    async with LocalSystem("bench") as system, asyncio.TaskGroup() as tasks:
        actors = [system.spawn(kind, str(number)) for number in range(AT_ONCE)]
        plain = [HandOver(nothing) for _ in range(AT_ONCE)]
        consumers = [tasks.create_task(each.run()) for each in plain]
        yield _Subject(
            [partial(each.ask, message) for each in actors],
            [partial(each.ask, message) for each in plain],
            plan.count(ASKS["local"]),
        )
        for consumer in consumers:
            consumer.cancel()


@asynccontextmanager
async def _durable(plan: Plan, kind: type[Actor], message: Message[Any]) -> AsyncGenerator[_Subject]:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(stage("process"))
        node = await stack.enter_async_context(System(APP, [Kind(actor=kind)]).host(here.bus))
        actors = [node.ref(kind, str(number)) for number in range(AT_ONCE)]
        await actors[0].ask(message, timeout_s=TIMEOUT_S)
        written = [stored.data for stored in await here.bus.log.read(actors[0].address)]

        def appends(number: int) -> Act:
            subject, last = here.bus.subjects.log(Address("bench_raw", str(number))), 0

            async def append() -> None:
                nonlocal last
                for data in written:
                    last = await here.raw.append(subject, data, last)

            return append

        yield _Subject(
            [partial(each.ask, message, timeout_s=TIMEOUT_S) for each in actors],
            [appends(number) for number in range(AT_ONCE)],
            plan.count(ASKS["durable"]),
        )


async def _at_once(acts: Sequence[Act], many: int) -> None:
    """So many in all, one after the other of each actor."""
    each = [0] * len(acts)
    for number, _ in zip(cycle(range(len(acts))), range(many), strict=False):
        each[number] += 1

    async def act_often(act: Act, often: int) -> None:
        for _ in range(often):
            await act()

    async with asyncio.TaskGroup() as tasks:
        for act, often in zip(acts, each, strict=True):
            tasks.create_task(act_often(act, often))
