"""Any NATS client in any language is a client of regrow: a program with nats-py alone asks, tells, and reads along."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from regrow.actors import Actor, Event, Message, Refused, System, command, event, query
from regrow.bus import EmbeddedServer, open_bus
from regrow.bus.connection import ServerAddress, connect

pytestmark = pytest.mark.asyncio

PROGRAM = Path(__file__).parent / "actors" / "apps" / "plain_client.py"


class Add(Message[int]):
    amount: int


class Spend(Message[int]):
    amount: int


class Total(Message[int]):
    pass


class Added(Event):
    amount: int


class Counter(Actor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(amount=msg.amount))
        return self.total

    @command
    async def spend(self, msg: Spend) -> int:
        raise Refused("no funds", balance=self.total)

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


async def what_it_saw(url: str, app: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(sys.executable, str(PROGRAM), url, app, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    seen: dict[str, Any] = json.loads(out)
    return seen


async def test_a_program_without_regrow_asks_tells_and_reads_along(tmp_path: Path) -> None:
    app = System("plain", actors=[Counter])
    async with EmbeddedServer(tmp_path / "store", durability="process") as server:
        client = await connect(ServerAddress(url=server.url), name="test")
        async with open_bus(client, "plain", create=True) as bus, app.host(bus):
            seen = await what_it_saw(server.url, "plain")
        await client.close()
    assert not seen["knows regrow"]
    assert seen["added"] == {"body": 2, "headers": {}}
    assert seen["refused"] == {
        "body": {"kind": "refused", "code": 409, "message": "no funds", "data": {"balance": 2}},
        "headers": {"Nats-Service-Error": "no funds", "Nats-Service-Error-Code": "409"},
    }
    assert seen["unknown"]["headers"]["Nats-Service-Error-Code"] == "404"
    assert seen["unknown"]["body"]["kind"] == "unknown"
    assert seen["undecodable"]["headers"]["Nats-Service-Error-Code"] == "400"
    assert seen["undecodable"]["headers"]["Nats-Service-Error"].endswith("Expected `int`, got `str` - at `$.amount`")
    assert seen["no such key"]["headers"]["Nats-Service-Error-Code"] == "400"
    assert seen["first"] == seen["again"] == {"body": 5, "headers": {}}
    assert seen["queried"]["body"] == 5
    assert (seen["stored in"], seen["told"]["body"]) == ("RG_plain_IN", 9)
    assert seen["log"] == seen["live"]
    assert [event for record in seen["log"] for entry in record["entries"] for event in entry.get("events", [])] == [
        {"type": "Added", "amount": amount} for amount in (2, 3, 4)
    ]
