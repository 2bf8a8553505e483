"""Random trees, random deaths, failing starts, calls and shutdowns: the real supervisors tell the story of the model."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal, get_args

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.supervisor.conftest import VirtualTimeLoop
from tests.supervisor.model import PER_S, Leaf, LeafPlan, Model, Node, Plan, SupervisorPlan
from tests.supervisor.puppet import AT_ONCE

from regrow.supervisor import (
    AutoShutdown,
    ChildSpec,
    Intensity,
    Restart,
    RestartIntensityReached,
    Start,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorError,
    TreeInfo,
)

Kind = Literal["crash", "finish", "crash_many", "fail_next", "wait", "start", "terminate", "restart", "delete"]
Op = tuple[Kind, int, int]

RESTARTS: st.SearchStrategy[Restart] = st.sampled_from(get_args(Restart))
STRATEGIES: st.SearchStrategy[Strategy] = st.sampled_from(get_args(Strategy))
# Twice as often what needs more than one child to go right.
AUTO_SHUTDOWNS: st.SearchStrategy[AutoShutdown] = st.sampled_from([*get_args(AutoShutdown), "all_significant"])
KINDS: st.SearchStrategy[Kind] = st.sampled_from(
    ["crash", "crash", "crash", "finish", "crash_many", "fail_next", "wait", "start", "terminate", "restart", "delete"]
)
OPS = st.lists(st.tuples(KINDS, st.integers(0, 20), st.integers(0, 20)), max_size=25)


@st.composite
def supervisors(draw: st.DrawFn, name: str = "s", depth: int = 2) -> SupervisorPlan:
    auto_shutdown = draw(AUTO_SHUTDOWNS)
    children: list[Plan] = []
    for number in range(draw(st.integers(0, 4 if depth == 2 else 3))):
        child = f"{name}{number}"
        if depth and draw(st.integers(0, 3)) == 0:
            children.append(draw(supervisors(child, depth - 1)))
        else:
            restart = draw(RESTARTS)
            significant = restart != "permanent" and auto_shutdown != "never" and draw(st.integers(0, 3)) > 0
            children.append(LeafPlan(child, restart, significant))
    return SupervisorPlan(
        id=name,
        restart=draw(RESTARTS),
        significant=False,
        strategy=draw(STRATEGIES),
        limit=draw(st.integers(0, 4)),
        auto_shutdown=auto_shutdown,
        children=tuple(children),
    )


class World:
    """The real tree, built from the plan, and the leaves that the test plays."""

    def __init__(self, plan: SupervisorPlan, fails: dict[str, int]) -> None:
        self.story: list[str] = []
        self.supervisors: dict[str, Supervisor] = {}
        self.fates: dict[str, asyncio.Future[None]] = {}
        self.fails = fails
        self.root = self._supervisor(plan)

    def leaf(self, plan: LeafPlan) -> ChildSpec:
        async def run(start: Start) -> None:
            if self.fails.get(plan.id, 0):
                self.fails[plan.id] -= 1
                self.story.append(f"{plan.id} failed")
                raise OSError("no port")
            fate = self.fates[plan.id] = asyncio.get_running_loop().create_future()
            self.story.append(f"{plan.id} came")
            start.ready()
            try:
                await fate
            finally:
                self.story.append(f"{plan.id} went")

        return ChildSpec(id=plan.id, run=run, restart=plan.restart, significant=plan.significant, backoff=AT_ONCE)

    def states(self) -> object:
        def of(info: TreeInfo) -> object:
            return info.name, info.state, [of(child) for child in info.children]

        return [of(child) for child in self.root.tree().children]

    def _supervisor(self, plan: SupervisorPlan) -> Supervisor:
        children = [self.leaf(child) if isinstance(child, LeafPlan) else self._nested(child) for child in plan.children]
        supervisor = self.supervisors[plan.id] = Supervisor(
            plan.id,
            children=children,
            strategy=plan.strategy,
            intensity=Intensity(plan.limit, per_s=PER_S),
            auto_shutdown=plan.auto_shutdown,
            draw=lambda: 0.0,
        )
        return supervisor

    def _nested(self, plan: SupervisorPlan) -> ChildSpec:
        return self._supervisor(plan).child_spec(restart=plan.restart)


async def settle() -> None:
    await asyncio.sleep(0.01)


async def play(plan: SupervisorPlan, fails: dict[str, int], ops: list[Op]) -> None:
    """Do everything to both, and compare what they tell and show after each step."""
    model, world = Model(plan, dict(fails)), World(plan, dict(fails))
    try:
        async with world.root:
            await settle()
            for op in ops:
                if model.states() is None:
                    break
                await _step(model, world, op)
                await settle()
                assert world.story == model.story, op
                assert model.states() in (world.states(), None), op
            assert (world.root.tree().state == "stopped") == (model.root is None)
            model.stop()
    except (StartFailed, RestartIntensityReached):
        assert model.root is None
    assert world.story == model.story
    assert len(asyncio.all_tasks()) == 1


async def _step(model: Model, world: World, op: Op) -> None:
    kind, first, second = op
    model.now = asyncio.get_running_loop().time()
    nodes, leaves = model.supervisors(), model.leaves()
    node = nodes[first % len(nodes)]
    real = world.supervisors[node.plan.id]
    match kind:
        case "crash" | "finish":
            if leaves:
                _end(model, world, [leaves[first % len(leaves)]], clean=kind == "finish")
        case "crash_many":
            both = [place.node for place in node.places if isinstance(place.node, Leaf)]
            if both and not any(isinstance(place.node, Node) for place in node.places):
                _end(model, world, both[: 1 + second % 3], clean=False)
        case "fail_next":
            if leaves:
                child = leaves[first % len(leaves)].place.plan.id
                model.fails[child] = world.fails[child] = 1 + second % 3
        case "wait":
            await asyncio.sleep(PER_S + 1.0)
        case "start":
            plan = LeafPlan(f"n{second % 3}{node.plan.id}", ("permanent", "transient", "temporary")[second % 3])
            assert await _said(lambda: real.start_child(world.leaf(plan))) == model.start_child(node, plan)
        case _:
            child = node.places[second % len(node.places)].plan.id if node.places else "nobody"
            await _call(model, real, node, kind, child)


def _end(model: Model, world: World, leaves: list[Leaf], *, clean: bool) -> None:
    for leaf in leaves:
        fate = world.fates[leaf.place.plan.id]
        if clean:
            fate.set_result(None)
        else:
            fate.set_exception(ValueError())
    model.end(leaves, clean)


async def _call(model: Model, real: Supervisor, node: Node, kind: Kind, child: str) -> None:
    match kind:
        case "terminate":
            assert await _said(lambda: real.terminate_child(child)) == model.terminate_child(node, child)
        case "restart":
            assert await _said(lambda: real.restart_child(child)) == model.restart_child(node, child)
        case _:
            assert await _said(lambda: real.delete_child(child)) == model.delete_child(node, child)


async def _said(call: Callable[[], Coroutine[Any, Any, object]]) -> str:
    """The class of the refusal, nothing when it was done."""
    try:
        await call()
    except SupervisorError as refusal:
        return type(refusal).__name__
    return ""


@pytest.fixture(scope="module", autouse=True)
def _silence() -> object:  # pyright: ignore[reportUnusedFunction]
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield
    structlog.configure(**before)


@settings(max_examples=250, deadline=None)
@given(supervisors(), st.dictionaries(st.sampled_from(["s0", "s1", "s00", "s10"]), st.integers(1, 2), max_size=2), OPS)
def test_random_trees_do_as_the_model_of_otp_does(plan: SupervisorPlan, fails: dict[str, int], ops: list[Op]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play(plan, fails, ops))
