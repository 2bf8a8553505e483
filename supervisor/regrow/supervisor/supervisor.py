"""The supervisor of children that are known by name: they start in order, are restarted together or alone, stop in reverse."""

import random
from collections.abc import Callable, Sequence
from typing import get_args

from regrow.supervisor.errors import InvalidOption, StartFailed
from regrow.supervisor.intensity import Intensity
from regrow.supervisor.lifetime import Lifetime
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.refusals import ChildAlreadyPresent, ChildAlreadyStarted, ChildRestarting, ChildRunning
from regrow.supervisor.slot import Slot
from regrow.supervisor.spec import ChildSpec, check_children
from regrow.supervisor.strategy import AutoShutdown, Strategy
from regrow.supervisor.tree import Rules


class Supervisor(Lifetime):
    """Children that are restarted when they die.

        async with Supervisor("root", children=[ChildSpec(id="gateway", run=serve)]) as tree:
            await tree.wait_stopped()

    Entering starts the children in order, each after the one before it is ready; when one fails, those
    already started are stopped in reverse and `StartFailed` is raised. Leaving stops all in reverse. When
    children die more often than `intensity` allows, the others are stopped in reverse and
    `RestartIntensityReached` is raised by `wait_stopped` and by leaving, with the last child's error as its
    cause.

    `strategy`: a child that died is restarted alone (one_for_one), with all others (one_for_all), or with those
    started after it (rest_for_one). The others are stopped first, in reverse; after the backoff all are started
    in order, each when the one before it is ready. Temporary ones among them do not come back.

    `auto_shutdown`: a significant child that ended, and is not restarted, ends the supervisor (any_significant),
    or does so when it was the last of them (all_significant). That is a clean end: nothing is raised.

    A supervisor whose children are all gone otherwise goes on, as in OTP. One that has stopped may be started
    again and begins afresh, which is how `child_spec()` makes it a child of another. `draw` gives the backoff's
    jitter.

    The calls on children wait for their turn: one at a time, in order, between two deaths. A caller that is
    cancelled while it waits does not undo what has begun. A child may not make them before it is ready: the
    supervisor is waiting for it.
    """

    def __init__(
        self,
        name: str,
        *,
        children: Sequence[ChildSpec],
        strategy: Strategy = "one_for_one",
        intensity: Intensity = Intensity(),  # noqa: B008 - a frozen value
        auto_shutdown: AutoShutdown = "never",
        draw: Callable[[], float] = random.random,
    ) -> None:
        _check(name, "strategy", strategy, get_args(Strategy))
        _check(name, "auto_shutdown", auto_shutdown, get_args(AutoShutdown))
        check_children(children, auto_shutdown)
        rules = Rules(intensity=intensity, strategy=strategy, auto_shutdown=auto_shutdown)
        super().__init__(name, children, rules, draw)

    async def start_child(self, spec: ChildSpec) -> Mortal:
        """Add a child as the last one and start it: returns when it is ready, or has finished.

        Raises `ChildAlreadyStarted` and `ChildAlreadyPresent` for an id that is taken, `InvalidOption` for a
        significant child that may not be, `StartFailed` when it died before it was ready and is not added.
        """
        check_children((spec,), self._rules.auto_shutdown)
        tree = self._running_tree()

        async def start() -> Mortal:
            if (known := tree.slots.get(spec.id)) is not None:
                taken = ChildAlreadyStarted if known.child is not None else ChildAlreadyPresent
                raise taken(self.name, spec.id)
            slot = tree.add(spec, spec.id)
            try:
                return await self._launch(slot)
            except StartFailed:
                tree.slots.pop(spec.id, None)  # a temporary one is forgotten already
                raise

        return await tree.request(start)

    async def terminate_child(self, id: str) -> None:  # noqa: A002 - OTP's word, and the spec's
        """Stop a child; it stays in the list as stopped, a temporary one is forgotten. Returns when it has gone.

        One that waits for its restart does not come back. No other child is concerned, whatever the strategy.
        Raises `ChildNotFound`.
        """
        tree = self._running_tree()

        async def terminate() -> None:
            await tree.stop((self._slot(id),))

        await tree.request(terminate)

    async def restart_child(self, id: str) -> Mortal:  # noqa: A002
        """Start a child that is stopped; returns when it is ready, or has finished.

        Raises `ChildRunning`, `ChildRestarting`, `ChildNotFound`, and `StartFailed` when it died before it was
        ready; then it stays stopped.
        """

        async def restart() -> Mortal:
            return await self._launch(self._stopped(id))

        return await self._running_tree().request(restart)

    async def delete_child(self, id: str) -> None:  # noqa: A002
        """Forget a child that is stopped. Raises `ChildRunning`, `ChildRestarting`, `ChildNotFound`."""
        tree = self._running_tree()

        async def delete() -> None:
            del tree.slots[self._stopped(id).name]

        await tree.request(delete)

    def _stopped(self, id: str) -> Slot:  # noqa: A002
        slot = self._slot(id)
        if slot.restarting:
            raise ChildRestarting(self.name, id)
        if slot.child is not None:
            raise ChildRunning(self.name, id)
        return slot

    async def _launch(self, slot: Slot) -> Mortal:
        tree = self._running_tree()
        child = tree.launch(slot)
        try:
            await child.wait_started()
        except StartFailed:
            tree.close(slot)
            raise
        return child


def _check(name: str, option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidOption(f"supervisor {name!r}: {option} must be one of {', '.join(allowed)}, not {value!r}")
