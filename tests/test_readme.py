"""The snippets of the README and of the guide run, and do what the text beside them says."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regrow.actors import Refused, System
from regrow.bus import MemoryBus

README = Path(__file__).parent.parent / "README.md"
GUIDE = Path(__file__).parent.parent / "docs" / "actors.md"
SNIPPET = re.compile(r"<!-- snippet: (?P<name>\S+) -->\n```python\n(?P<code>.*?)```", re.DOTALL)

pytestmark = pytest.mark.asyncio


@pytest.fixture
def snippets(tmp_path: Path) -> Iterator[dict[str, Any]]:
    modules: dict[str, Any] = {}
    for found in SNIPPET.finditer(README.read_text(encoding="utf-8") + GUIDE.read_text(encoding="utf-8")):
        path = tmp_path / found["name"]
        path.write_text(found["code"], encoding="utf-8")
        name = f"readme_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        modules[path.name] = module
    yield modules
    for module in modules.values():
        del sys.modules[module.__name__]


async def test_the_purse_pays_refuses_and_remembers(snippets: dict[str, Any]) -> None:
    hello = snippets["hello.py"]
    system: System = hello.app
    bus = MemoryBus(system.name)
    async with system.checked().host(bus) as node:
        anna = node.ref(hello.Purse, "anna")
        assert await anna.ask(hello.Spend(cents=300)) == 700
        with pytest.raises(Refused) as refused:
            await anna.ask(hello.Spend(cents=800))
        assert refused.value.data == {"left": 700}
    async with system.host(bus) as node:
        assert await node.ref(hello.Purse, "anna").ask(hello.Spend(cents=1)) == 699


async def test_the_triage_agent_names_a_queue(snippets: dict[str, Any]) -> None:
    triage = snippets["triage.py"]
    system: System = triage.app
    async with system.host(MemoryBus(system.name)) as node:
        assert await node.ref(triage.Triage, "anna").ask(triage.Sort(ticket="my invoice is wrong")) == "billing"
        assert node.host.statistics["steps_run"] == 3


async def test_the_cart_keeps_what_was_put_into_it(snippets: dict[str, Any]) -> None:
    cart = snippets["cart.py"]
    bus = MemoryBus(cart.app.name)
    for count in (1, 2):
        async with cart.app.checked().host(bus) as node:
            assert await node.ref(cart.Cart, "anna").ask(cart.Put(item="milk")) == count


async def test_the_cheapest_offer_is_charged_once_and_the_token_stays_out_of_the_log(snippets: dict[str, Any]) -> None:
    trip, bus = snippets["booking.py"], MemoryBus("trips")
    async with trip.app.checked().host(bus) as node:
        assert await node.ref(trip.Trip, "ann").ask(trip.Book(route="FRA-MUC")) == "receipt for 80"
        log = b"".join(each.data for each in await bus.log.read(node.ref(trip.Trip, "ann").address))
    assert b'"token":"***"' in log
    assert b"secret" not in log
    assert list(trip.PAID.values()) == ["receipt for 80"]


async def test_the_books_are_closed_by_a_schedule(snippets: dict[str, Any]) -> None:
    nightly = snippets["nightly.py"]
    bus = MemoryBus(nightly.app.name)
    async with nightly.app.host(bus):
        first = await anext(bus.log.follow("rg_schedule", {}))
    assert "main" in first.address.key


async def test_the_two_commands_are_what_the_makefile_offers() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+) ", README.read_text(encoding="utf-8"), re.MULTILINE):
        assert f"\n{target}: " in makefile


async def test_the_desk_passes_a_question_on(snippets: dict[str, Any]) -> None:
    assert await snippets["desk.py"].main() == "WHY?"


async def test_the_gate_opens(snippets: dict[str, Any]) -> None:
    assert await snippets["gate.py"].main() == "welcome, Anna"
