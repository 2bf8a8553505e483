"""``regrow check``, beside an application that runs."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import nats
import pytest

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]

APP = """
import asyncio

from regrow.actors import Actor, Message, System, command, tool


@tool
async def work(route: dict[str, str]) -> str:
    print("ran", flush=True)
    return route["from"]


@tool
async def wait_for_ever() -> None:
    await asyncio.Event().wait()


class Go(Message[str]):
    start: str


class Trip(Actor, persist="fields"):
    @command
    async def go(self, msg: Go) -> str:
        done = await work({"from": msg.start})
        await wait_for_ever()
        return done


app = System("trips", [Trip])
"""


@pytest.mark.asyncio
async def test_the_actors_whose_logs_no_longer_fit_are_named(start: Start, regrow: Run, tmp_path: Path) -> None:
    source = tmp_path / "trips.py"
    source.write_text(APP)
    dev = start("dev", "trips:app", "--port", "0", "--durability", "process")
    assert dev.stderr is not None
    assert dev.stdout is not None
    url = dev.stderr.readline().split()[3].rstrip(";")
    client = await nats.connect(url)
    for key in ("a", "b"):
        await client.request(f"rg.trips.in.trip.{key}", b'{"type":"Go","start":"%s"}' % key.encode(), timeout=10)
        assert await asyncio.to_thread(dev.stdout.readline) == "ran\n"
    await client.close()
    for key in ("a", "b"):
        while '"steps": 1' not in regrow("actors", "show", "trips:app", "trip", key, "--json", "--nats", url).stdout:
            pass
    here = ("check", "trips:app", "--nats", url)
    fits = regrow(*here)
    assert (fits.returncode, fits.stdout) == (0, "")
    assert "2 actors checked, 2 fit this build" in fits.stderr
    source.write_text(APP.replace('{"from": msg.start}', '{"from": "a"}'))
    broken = regrow(*here)
    why = 'work is called with other arguments: $.route.from: "b" was recorded, "a" is wanted'
    assert (broken.returncode, broken.stdout) == (7, f"trip/b  drift: {why}\n")
    assert "2 actors checked, 1 fit this build; 1 no longer fit and would wait: 1 drift" in broken.stderr
    lines = [json.loads(line) for line in regrow(*here, "--json").stdout.splitlines()]
    assert lines == [
        {"v": 1, "actor": "trip/a", "fits": True, "kind": "", "why": ""},
        {"v": 1, "actor": "trip/b", "fits": False, "kind": "drift", "why": why},
    ]
    cancel = ("actors", "cancel", "trips:app", "trip", "a", "--nats", url)
    assert regrow(*cancel, "--reason", "enough").stdout == "the running turn of trip/a is cancelled\n"
    while '"opened": null' not in regrow("actors", "show", "trips:app", "trip", "a", "--json", "--nats", url).stdout:
        pass
    assert regrow(*cancel).stdout == "trip/a runs no turn: there was nothing to cancel\n"
    assert json.loads(regrow(*cancel, "--json").stdout)["cancelled"] is False
