"""The supervisor of children that come and go, many and alike: started on demand, each on its own, stopped all at once."""

import itertools
import random
from collections.abc import Callable

from regrow.supervisor.child import Child
from regrow.supervisor.errors import InvalidOption, StartFailed
from regrow.supervisor.intensity import Intensity
from regrow.supervisor.lifetime import Lifetime
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.refusals import ChildNotFound, MaxChildrenReached, SupervisorStopped
from regrow.supervisor.spec import ChildSpec, Run, check_children
from regrow.supervisor.strategy import all_at_once
from regrow.supervisor.tree import Rules


class DynamicSupervisor(Lifetime):
    """Children that are started while it runs (Elixir's DynamicSupervisor).

        async with DynamicSupervisor("sessions", children_max=10_000) as sessions:
            session = await sessions.start_child(serve)

    It starts empty. Children need no ids: one spec may be started many times. Each is restarted alone, by the
    same table, backoff and intensity as under a `Supervisor`; one that ends for good is forgotten. Leaving stops
    all at the same time, each with its own shutdown time. Children may be started and terminated while others
    are starting.
    """

    def __init__(
        self,
        name: str,
        *,
        children_max: int | None = None,
        intensity: Intensity = Intensity(),  # noqa: B008 - a frozen value
        draw: Callable[[], float] = random.random,
    ) -> None:
        if children_max is not None and children_max < 0:
            raise InvalidOption(f"supervisor {name!r}: children_max must be 0 or more, or None, not {children_max}")
        rules = Rules(intensity=intensity, waves=all_at_once, keeps=lambda spec, cause: False)
        super().__init__(name, (), rules, draw)
        self._children_max = children_max
        self._numbers = itertools.count(1)

    async def start_child(self, what: ChildSpec | Run) -> Mortal:
        """Start a child by its spec, or a coroutine function as a temporary one; returns when it is ready, or has finished.

        Its name is the spec's id, or the function's, with a number where that is taken. A caller that is cancelled
        while it waits leaves the child to the supervisor. Raises `MaxChildrenReached`, `StartFailed` when it died
        before it was ready, and `InvalidOption` for a significant child, as this supervisor never ends by itself.
        """
        spec = what if isinstance(what, ChildSpec) else ChildSpec(id=_name_of(what), run=what, restart="temporary")
        check_children((spec,))
        tree = self._running_tree()
        if tree.is_stopping:
            raise SupervisorStopped(self.name)
        if self._children_max is not None and len(tree.slots) >= self._children_max:
            raise MaxChildrenReached(self.name, self._children_max)
        name = spec.id if spec.id not in tree.slots else f"{spec.id}#{next(self._numbers)}"
        child = tree.launch(tree.add(spec, name))
        try:
            await child.wait_started()
        except StartFailed:
            if tree.is_stopping:
                raise SupervisorStopped(self.name) from None
            raise
        return child

    async def terminate_child(self, child: Mortal | str) -> None:
        """Stop a child, given by its handle or name, and forget it; returns when it has gone.

        A handle stands for the child through all its restarts, and for no other that got its name later. Raises
        `ChildNotFound`.
        """
        slot = self._slot(child if isinstance(child, str) else child.name)
        if isinstance(child, Child) and child.place is not slot:
            raise ChildNotFound(self.name, child.name)
        tree = self._running_tree()
        slot.leaving = True
        slot.settle()
        if slot.child is None:
            tree.close(slot)
        else:
            await slot.child.stop()


def _name_of(run: Run) -> str:
    return getattr(run, "__qualname__", None) or type(run).__qualname__
