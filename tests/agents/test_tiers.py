"""The four tiers over a handful of products of the sample: on a real server with its tool process, and in memory where they fail."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import pytest

from regrow.actors import Node, Refused, System
from regrow.actors.records import Record, Step, Steps
from regrow.actors.witness import WITNESS, Sighting, sightings
from regrow.agents import food
from regrow.agents.card import Recommendation
from regrow.agents.catalog import Catalog
from regrow.agents.coordinator import Coordinator, Index, Lot, Progress, Recommend, Status
from regrow.agents.food_tools import CATALOG, Source
from regrow.agents.product import Product
from regrow.agents.question import constraint_ok
from regrow.agents.researcher import Researcher
from regrow.agents.rules_food import food_rules
from regrow.agents.store import CatalogStore
from regrow.agents.usda import sample_path
from regrow.bus import Address, Bus, EmbeddedServer, MemoryBus, decode, open_bus
from regrow.bus.connection import ServerAddress, connect
from regrow.models import Completion, Model, ModelRefused, Prompt

T = TypeVar("T")

PRODUCTS = 5
QUESTION = "like CHEDDAR CHEESE but less sodium"

# Each step of a researcher's turn and where its outcome goes: a part of it stands in the arguments of that step, or on the card.
USED: dict[str, tuple[str, list[str]]] = {
    "lookup": ("model.read_name", ["name"]),
    "model.read_name": ("search_similar", ["value", "keywords"]),
    "convert_portion": ("portion_amounts", []),
    "portion_amounts": ("nutrient_claims", []),
    "check_energy": ("card", []),
    "place_in_category": ("model.judge_traits", []),
    "search_similar": ("compare_candidates", []),
    "nutrient_claims": ("model.judge_traits", []),
    "compare_candidates": ("model.choose_alternatives", []),
    "model.judge_traits": ("model.summarise", ["value", "traits"]),
    "model.choose_alternatives": ("verify_alternatives", ["value", "alternatives"]),
    "verify_alternatives": ("model.summarise", ["kept"]),
    "model.summarise": ("card", ["value", "sentence"]),
}


class Run(msgspec.Struct):
    """What one run left behind."""

    status: Status
    cards: dict[str, bytes]
    steps: dict[str, list[Step]]
    answer: Recommendation
    sightings: list[Sighting]


@asynccontextmanager
async def on_server(system: System, store: Path) -> AsyncGenerator[Node]:
    async with EmbeddedServer(store / "nats", "process") as server:
        client = await connect(ServerAddress(url=server.url), name="test")
        try:
            async with open_bus(client, system.name, create=True) as bus, system.host(bus, url=server.url) as node:
                yield node
        finally:
            await client.close()


async def finished(node: Node, index: Index) -> Status:
    """The status of the run at its end."""
    run = node.ref(Coordinator, "run")
    status = await run.ask(index, timeout_s=30)
    while not status.done:
        status = await run.ask(Progress())
    return status


async def steps_of(bus: Bus, product: str) -> list[Step]:
    records = [decode(each.data, Record, "record") for each in await bus.log.read(Address("researcher", product))]
    return [step for record in records for entry in record.entries if isinstance(entry, Steps) for step in entry.steps]


async def run_food(store: Path, witness: Path) -> Run:
    async with on_server(food.app, store) as node:
        status = await finished(node, Index(source=Source(str(sample_path())), products_max=PRODUCTS, lot_size=3))
        answer = await node.ref(Coordinator, "run").ask(Recommend(question=QUESTION))
        with CatalogStore(store / "catalog.sqlite") as catalog:
            cards = dict(catalog.cards())
        steps = {product: await steps_of(node.bus, product) for product in cards}
    return Run(status, cards, steps, answer, list(sightings(witness)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Run]]:
    """The same work done twice, in stores of their own."""
    done: list[Run] = []
    with pytest.MonkeyPatch.context() as patch:
        for store in (tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")):
            patch.setenv(CATALOG, str(store / "catalog.sqlite"))
            patch.setenv(WITNESS, str(store / "witness"))
            done.append(asyncio.run(run_food(store, store / "witness")))
    yield done[0], done[1]


def test_every_planned_product_gets_a_card(runs: tuple[Run, Run]) -> None:
    run, _ = runs
    assert run.status == Status(lots=2, lots_done=2, products=PRODUCTS, products_done=PRODUCTS)
    assert len(run.cards) == PRODUCTS


def test_a_product_takes_thirteen_steps_of_which_four_are_model_calls(runs: tuple[Run, Run]) -> None:
    for steps in runs[0].steps.values():
        assert sorted(step.tool for step in steps) == sorted(USED)
        assert sum(step.tool.startswith("model.") for step in steps) == 4
        assert all(step.outcome.failure is None for step in steps)


def test_the_outcome_of_every_step_is_used(runs: tuple[Run, Run]) -> None:
    told: set[str] = set()
    for product, steps in runs[0].steps.items():
        taken = {step.tool: msgspec.json.decode(step.arguments) for step in steps}
        taken["card"] = json.loads(runs[0].cards[product])
        for step in steps:
            user, part = USED[step.tool]
            value = msgspec.json.decode(step.outcome.value)
            for name in part:
                value = value[name]
            assert value in parts(taken[user]), (step.tool, user)
            if value:
                told.add(step.tool)
    assert told == set(USED)  # an empty outcome is found anywhere


def parts(value: object) -> list[object]:
    """A JSON value and all values inside it."""
    inside: Sequence[object] = ()
    if isinstance(value, dict):
        inside = list(cast(dict[str, object], value).values())
    elif isinstance(value, list):
        inside = cast(list[object], value)
    return [value, *(part for each in inside for part in parts(each))]


def test_two_runs_give_the_same_cards_by_the_same_steps(runs: tuple[Run, Run]) -> None:
    first, second = runs
    assert first.cards == second.cards
    assert {p: {s.key for s in steps} for p, steps in first.steps.items()} == {
        p: {s.key for s in steps} for p, steps in second.steps.items()
    }


def test_the_tools_of_the_search_agent_run_in_a_process_of_their_own(runs: tuple[Run, Run]) -> None:
    run, _ = runs
    pids: dict[str, set[int]] = {}
    for each in run.sightings:
        pids.setdefault(each.step.split("/")[1], set()).add(each.pid)
    assert pids["lookup"] == pids["compare_candidates"] == {os.getpid()}
    assert len(pids["search_similar"]) == 1
    assert pids["search_similar"] == pids["find_base"] != {os.getpid()}


def test_every_step_ran_once(runs: tuple[Run, Run]) -> None:
    for run in runs:
        assert len({(each.actor, each.step) for each in run.sightings}) == len(run.sightings)


def test_a_recommendation_is_borne_out_by_the_columns(runs: tuple[Run, Run], sample: list[Product]) -> None:
    rows = {each.id: each for each in sample}
    for run in runs:
        assert run.answer.answer_id is not None
        base, found = rows[run.answer.base_id], rows[run.answer.answer_id]
        assert constraint_ok(run.answer.wish, base, found)
        assert all(rows[each.id].amount(each.nutrient) == each.value for each in run.answer.evidence)
    assert runs[0].answer == runs[1].answer


# In memory: the same actors, their tools in place


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Model], Any]:
    """Hosts the tiers with a model of the test's own, on a catalogue of its own."""
    monkeypatch.setenv(CATALOG, str(tmp_path / "catalog.sqlite"))
    monkeypatch.delenv(WITNESS, raising=False)
    bus = MemoryBus("food")

    def begin(model: Model) -> Any:
        return System("food", [Catalog, Coordinator, Lot, Researcher], ports={"model": model}).checked().host(bus)

    return begin


class Unable:
    """The rules, but for products whose name holds this word."""

    name = "rules"
    deterministic = True

    def __init__(self, word: str) -> None:
        self._word = word
        self._rules = food_rules()

    async def complete(self, prompt: Prompt, returns: type[T]) -> Completion[T]:
        if self._word in str(prompt.inputs.get("name", "")):
            raise ModelRefused(f"nothing can be said of {self._word}")
        return await self._rules.complete(prompt, returns)


@pytest.fixture
def cheeses(tmp_path: Path) -> Index:
    """A catalogue of four rows, in two lots."""
    path = tmp_path / "cheeses.csv"
    path.write_text("id,name,Sodium\n1,BRIE,629\n2,GOUDA,819\n3,EDAM,812\n4,GOUDA OLD,900\n")
    return Index(source=Source(str(path)), products_max=100, lot_size=2, lots_at_once=1)


@pytest.mark.asyncio
async def test_a_product_that_fails_holds_up_nobody_and_is_tried_again_when_told(
    host: Callable[[Model], Any], cheeses: Index
) -> None:
    async with host(Unable("GOUDA")) as node:
        status = await finished(node, cheeses)
        assert (status.products_done, status.products_failed) == (2, 2)
        assert status.first_failed == "2: nothing can be said of GOUDA"
        again = await finished(node, cheeses)
        assert (again.products_done, again.products_failed) == (2, 2)
    async with host(food_rules()) as node:
        mended = await finished(node, cheeses)
        assert (mended.products_done, mended.products_failed, mended.first_failed) == (4, 0, "")
        assert await finished(node, cheeses) == mended


@pytest.mark.asyncio
async def test_a_file_that_cannot_be_read_is_refused_by_the_name_of_its_error(
    host: Callable[[Model], Any], tmp_path: Path
) -> None:
    async with host(food_rules()) as node:
        for name, error in (("none.csv", "UnreadableCatalogue"), ("rows.txt", "UnreadableCatalogue")):
            with pytest.raises(Refused) as refused:
                index = Index(source=Source(str(tmp_path / name)), products_max=1)
                await node.ref(Coordinator, "run").ask(index, timeout_s=10)
            assert refused.value.data == {"error": error}


@pytest.mark.asyncio
async def test_a_question_asked_again_finds_its_recorded_answer(host: Callable[[Model], Any], cheeses: Index) -> None:
    async with host(food_rules()) as node:
        await finished(node, cheeses)
        run = node.ref(Coordinator, "run")
        first = await run.ask(Recommend(question="like GOUDA but less sodium"))
        counted = node.host.statistics["steps_run"]
        assert await run.ask(Recommend(question="like GOUDA but less sodium")) == first
        assert node.host.statistics["steps_run"] == counted + 1  # the coordinator's own: to ask


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("what?", "is not of the shape"),
        ("like ROQUEFORT but less sodium", "no product like 'ROQUEFORT'"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused_with_the_reason(
    host: Callable[[Model], Any], cheeses: Index, question: str, why: str
) -> None:
    async with host(food_rules()) as node:
        await finished(node, cheeses)
        with pytest.raises(Refused, match=why):
            await node.ref(Coordinator, "run").ask(Recommend(question=question))


# Another model, by the environment


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """A chat completions endpoint that answers questions about Gouda, and what it was asked."""
    asked: list[Mapping[str, Any]] = []
    answers: dict[str, Any] = {
        "read_question": {"like": "GOUDA", "less": ["Sodium"], "more": []},
        "pick_answer": {"id": "3", "name": "EDAM", "reason": "it says so", "evidence": []},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(request)
            value = answers[request["response_format"]["json_schema"]["name"]]
            message = {"role": "assistant", "content": json.dumps({"value": value})}
            choices = [{"index": 0, "finish_reason": "stop", "message": message}]
            body = {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny-1", "choices": choices}
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # BaseHTTPRequestHandler's name
            """Say nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.asyncio
async def test_the_environment_chooses_the_model(
    host: Callable[[Model], Any],
    cheeses: Index,
    endpoint: tuple[str, list[Mapping[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, asked = endpoint
    async with host(food.chosen_model()) as node:
        await finished(node, cheeses)
    monkeypatch.setenv(food.MODEL, "tiny")
    monkeypatch.setenv(food.MODEL_URL, url)
    monkeypatch.setenv(food.MODEL_KEY, "none")
    model = food.chosen_model()
    assert model.name == "tiny"
    async with host(model) as node:
        answer = await node.ref(Coordinator, "run").ask(Recommend(question="Gouda, aber weniger salzig"))
    assert (answer.base_id, answer.answer_id, answer.reason) == ("2", "3", "it says so")
    assert [each["model"] for each in asked] == ["tiny", "tiny"]
    assert json.loads(asked[0]["messages"][1]["content"]) == {"question": "Gouda, aber weniger salzig"}
