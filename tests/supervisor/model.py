"""OTP's rules once more, without an event loop: what a tree of supervisors does about one thing that happens to it.

Written from the documentation of OTP's supervisor and with nothing of ours but the names of the errors. The model
tells the same story that the real children tell: who came, who failed to come, who went, in which order.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Union

from regrow.supervisor import AutoShutdown, Restart, Strategy

PER_S = 5.0


@dataclass(frozen=True)
class LeafPlan:
    id: str
    restart: Restart
    significant: bool = False


@dataclass(frozen=True)
class SupervisorPlan:
    id: str
    restart: Restart
    significant: bool
    strategy: Strategy
    limit: int
    auto_shutdown: AutoShutdown
    children: tuple[Union[LeafPlan, "SupervisorPlan"], ...]


Plan = LeafPlan | SupervisorPlan


@dataclass(eq=False)
class Place:
    plan: Plan
    node: Union["Leaf", "Node", None] = None


@dataclass(eq=False)
class Leaf:
    parent: "Node"
    place: Place


@dataclass(eq=False)
class Node:
    plan: SupervisorPlan
    parent: Union["Node", None]
    place: Place | None
    places: list[Place] = field(default_factory=list["Place"])
    restarts_at: list[float] = field(default_factory=list[float])

    def find(self, child: str) -> Place | None:
        return next((place for place in self.places if place.plan.id == child), None)


class Model:
    """A world of supervisors; `fails` says how often the next starts of a leaf fail."""

    def __init__(self, plan: SupervisorPlan, fails: dict[str, int]) -> None:
        self.story: list[str] = []
        self.fails = fails
        self.now = 0.0
        self.root = self._supervise(plan, None, None)

    # What is there

    def supervisors(self) -> list[Node]:
        found: list[Node] = []
        left = [self.root] if self.root is not None else []
        while left:
            node = left.pop()
            found.append(node)
            left += [place.node for place in node.places if isinstance(place.node, Node)]
        return sorted(found, key=lambda node: node.plan.id)

    def leaves(self) -> list[Leaf]:
        found = [place.node for node in self.supervisors() for place in node.places if isinstance(place.node, Leaf)]
        return sorted(found, key=lambda leaf: leaf.place.plan.id)

    def states(self) -> object:
        def of(place: Place) -> object:
            inner = [of(child) for child in place.node.places] if isinstance(place.node, Node) else []
            return place.plan.id, "stopped" if place.node is None else "running", inner

        return None if self.root is None else [of(place) for place in self.root.places]

    # What happens

    def end(self, leaves: list[Leaf], clean: bool) -> None:
        """These leaves of one supervisor end at the same moment."""
        for leaf in leaves:
            self.story.append(f"{leaf.place.plan.id} went")
            leaf.place.node = None
        self._bury(leaves[0].parent, deque((leaf.place, clean) for leaf in leaves))

    def start_child(self, node: Node, plan: LeafPlan) -> str:
        if (known := node.find(plan.id)) is not None:
            return "ChildAlreadyPresent" if known.node is None else "ChildAlreadyStarted"
        place = Place(plan)
        node.places.append(place)
        if self._start(node, place):
            return ""
        node.places.remove(place)
        return "StartFailed"

    def terminate_child(self, node: Node, child: str) -> str:
        if (place := node.find(child)) is None:
            return "ChildNotFound"
        self._stop(node, [place])
        return ""

    def restart_child(self, node: Node, child: str) -> str:
        if (place := node.find(child)) is None:
            return "ChildNotFound"
        if place.node is not None:
            return "ChildRunning"
        return "" if self._start(node, place) else "StartFailed"

    def delete_child(self, node: Node, child: str) -> str:
        if (place := node.find(child)) is None:
            return "ChildNotFound"
        if place.node is not None:
            return "ChildRunning"
        node.places.remove(place)
        return ""

    def stop(self) -> None:
        if self.root is not None:
            self._stop(self.root, self.root.places)

    # The rules

    def _supervise(self, plan: SupervisorPlan, parent: Node | None, place: Place | None) -> Node | None:
        node = Node(plan, parent, place, [Place(child) for child in plan.children])
        for child in node.places:
            if not self._start(node, child):
                self._stop(node, node.places)
                return None
        return node

    def _start(self, node: Node, place: Place) -> bool:
        plan = place.plan
        if isinstance(plan, SupervisorPlan):
            place.node = self._supervise(plan, node, place)
        elif self.fails.get(plan.id, 0):
            self.fails[plan.id] -= 1
            self.story.append(f"{plan.id} failed")
        else:
            self.story.append(f"{plan.id} came")
            place.node = Leaf(node, place)
        return place.node is not None

    def _stop(self, node: Node, places: list[Place]) -> None:
        for place in list(reversed(places)):
            if isinstance(place.node, Node):
                self._stop(place.node, place.node.places)
            elif place.node is not None:
                self.story.append(f"{place.plan.id} went")
            place.node = None
            if place.plan.restart == "temporary":
                node.places.remove(place)

    def _bury(self, node: Node, dead: deque[tuple[Place, bool]]) -> None:
        while dead:
            place, clean = dead.popleft()
            if place.plan.restart == "temporary" or (place.plan.restart == "transient" and clean):
                if place.plan.restart == "temporary":
                    node.places.remove(place)
                if self._ends_all(node, place, [other for other, _ in dead]):
                    self._end_supervisor(node, clean=True)
                    return
                continue
            node.restarts_at = [at for at in node.restarts_at if self.now - at <= PER_S]
            if len(node.restarts_at) >= node.plan.limit:
                self._end_supervisor(node, clean=False)
                return
            node.restarts_at.append(self.now)
            self._restart(node, place, dead)

    def _restart(self, node: Node, place: Place, dead: deque[tuple[Place, bool]]) -> None:
        at = node.places.index(place)
        match node.plan.strategy:
            case "one_for_one":
                group = [place]
            case "one_for_all":
                group = list(node.places)
            case "rest_for_one":
                group = node.places[at:]
        self._stop(node, group)
        for known in list(dead):
            if known[0] in group:
                dead.remove(known)
        for one in group:
            if one in node.places and not self._start(node, one):
                dead.append((one, False))
                return

    def _ends_all(self, node: Node, place: Place, dying: list[Place]) -> bool:
        others = any(other.plan.significant and (other.node is not None or other in dying) for other in node.places)
        return place.plan.significant and (
            node.plan.auto_shutdown == "any_significant"
            or (node.plan.auto_shutdown == "all_significant" and not others)
        )

    def _end_supervisor(self, node: Node, *, clean: bool) -> None:
        self._stop(node, node.places)
        if node.parent is None or node.place is None:
            self.root = None
            return
        node.place.node = None
        self._bury(node.parent, deque([(node.place, clean)]))
