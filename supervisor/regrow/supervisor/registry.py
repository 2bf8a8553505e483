"""Names: a registry is an object, so two of them, or two tests, know nothing of each other. After Elixir's `Registry`.

Here a name belongs to one holder; for names that many share see `Groups`. Belongs to one event loop; only `wait_for` waits.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from regrow.supervisor.errors import SupervisorError
from regrow.supervisor.exits import Exit, describe
from regrow.supervisor.monitor import Monitor, monitor
from regrow.supervisor.mortal import Mortal


class NameTaken(SupervisorError):
    """The name belongs to somebody who lives, perhaps to the one who asks; `holder` is who."""

    def __init__(self, name: str, holder: Mortal) -> None:
        super().__init__(f"the name {name!r} belongs to {holder.name!r}; unregister it first, or choose another")
        self.name = name
        self.holder = holder


class NameOfTheDead(SupervisorError):
    """Who was to be registered has died already; `cause` says of what."""

    def __init__(self, name: str, holder: Mortal, cause: Exit) -> None:
        super().__init__(f"the name {name!r} was not given to {holder.name!r}, which {describe(cause)}")
        self.name = name
        self.cause = cause


class NameUnknown(SupervisorError, TimeoutError):
    """Nobody took the name in time."""

    def __init__(self, name: str, timeout_s: float) -> None:
        super().__init__(f"nobody was registered as {name!r} within {timeout_s:g} s")
        self.name = name
        self.timeout_s = timeout_s


class Registry:
    """Who is called what. A name is free again as soon as its holder is dead; a holder may have several."""

    def __init__(self) -> None:
        self._holders: dict[str, Mortal] = {}
        self._awaited: dict[str, list[asyncio.Future[None]]] = {}

    def register(self, name: str, holder: Mortal) -> None:
        """Gives a name. Raises `NameTaken`, also when it has this holder, and `NameOfTheDead`."""
        taken = self.whereis(name)
        if taken is not None:
            raise NameTaken(name, taken)
        if holder.exit is not None:
            raise NameOfTheDead(name, holder, holder.exit)
        self._holders[name] = holder
        holder.watch(_Bereaved(self._forget, name, holder))
        for waiting in self._awaited.pop(name, ()):
            if not waiting.done():
                waiting.set_result(None)

    def unregister(self, name: str) -> None:
        """Frees a name; does nothing for one that nobody has."""
        holder = self._holders.pop(name, None)
        if holder is not None:
            holder.unwatch(_Bereaved(self._forget, name, holder))

    def whereis(self, name: str) -> Mortal | None:
        """The living holder of a name, or None."""
        holder = self._holders.get(name)
        # Whoever was told of a death before us may ask before we have been told.
        return holder if holder is not None and holder.exit is None else None

    def names(self, holder: Mortal | None = None) -> tuple[str, ...]:
        """The names of this holder, or all that are taken, in the order in which they were."""
        return tuple(
            name for name, each in self._holders.items() if each.exit is None and (holder is None or each is holder)
        )

    def monitor(self, name: str, callback: Callable[[Exit], None] | None = None) -> Monitor:
        """A monitor of who has the name now, whoever has it later; of a free name it is down at once with `NoProcess`."""
        return monitor(self.whereis(name), callback)

    async def wait_for(self, name: str, timeout_s: float) -> Mortal:
        """The living holder of a name, as soon as there is one. Raises `NameUnknown` after `timeout_s` seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                while (holder := self.whereis(name)) is None:
                    await self._wait_registered(name)
        except TimeoutError as late:
            raise NameUnknown(name, timeout_s) from late
        return holder

    async def _wait_registered(self, name: str) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(name, []).append(waiting)
        try:
            await waiting
        finally:
            others = self._awaited.get(name)
            if others is not None and waiting in others:
                others.remove(waiting)
                if not others:
                    del self._awaited[name]

    def _forget(self, name: str, holder: Mortal) -> None:
        if self._holders.get(name) is holder:
            del self._holders[name]


@dataclass(frozen=True, slots=True)
class _Bereaved:
    """What a registry wants to be told of a holder's death."""

    forget: Callable[[str, Mortal], None]
    name: str
    holder: Mortal

    def __call__(self, cause: Exit) -> None:
        self.forget(self.name, self.holder)
