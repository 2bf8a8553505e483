"""An outside program under whose load the chaos run kills things: it knows NATS and the names on the wire, nothing of regrow.

    python bench/chaos_client.py load URL APP FILE --seconds 60 --actors 300 --clients 40 --rate 200 --seed 1
    python bench/chaos_client.py read URL APP FILE --actors 300 --wait 120

``load`` sends operations for some time and writes one JSON line for each when it is over. Each client sends the next one
when the one before is acknowledged or given up. What is unknown is sent again under the same ``Rg-Id``; a few clients are
impatient and leave it unknown. ``read`` waits until the mailboxes are empty and writes down what every actor answers, what its log
says, and the dead letters. One task per client, all on one connection of one event loop.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TextIO

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import APIError

KIND = "account"
TRY_TIMEOUT_S = 3.0
PAUSE_S = 0.1
"""Between two tries."""
PATIENCE_S = 90.0
"""How long an operation is sent again. An actor answers repetitions of its last thousand operations: the rate must keep within."""
IMPATIENT = 0.25
"""The share of unknown operations that are left at that."""
HOT_ACTORS = 10
HOT = 0.2
"""The share of operations that goes to the few hot actors."""
MIX = {
    ("add", "tell"): 32,
    ("add", "ask"): 16,
    ("write", "tell"): 8,
    ("write", "ask"): 8,
    ("read", "ask"): 8,
    ("forward", "tell"): 10,
    ("forward", "ask"): 3,
    ("fetch", "ask"): 4,
    ("fetch", "tell"): 3,
    ("later", "tell"): 4,
    ("later", "ask"): 3,
    ("peek", "ask"): 8,
}
LOG_STREAMS = 16
MAILBOX_FULL = 10077


class Sender:
    """One client: its operations come one after the other."""

    def __init__(self, number: int, chosen: argparse.Namespace, client: Client, out: TextIO) -> None:
        self._name = f"c{number}"
        self._chosen = chosen
        self._draw = random.Random(f"{chosen.seed}/{number}")
        self._client = client
        self._js = client.jetstream(timeout=TRY_TIMEOUT_S)
        self._out = out

    async def run(self, until_s: float) -> None:
        """Sends at its share of the rate until the time has come; it never catches up what it has missed."""
        pause_s = self._chosen.clients / self._chosen.rate
        await asyncio.sleep(self._draw.uniform(0, pause_s))
        number = 0
        while (began_s := time.monotonic()) < until_s:
            operation, way = self._next(number)
            await self._carry_out(operation, way)
            self._out.write(json.dumps(operation) + "\n")
            number += 1
            await asyncio.sleep(max(0.0, began_s + pause_s * self._draw.uniform(0.5, 1.5) - time.monotonic()))

    def _next(self, number: int) -> tuple[dict[str, Any], str]:
        verb, way = self._draw.choices(list(MIX), weights=list(MIX.values()))[0]
        actors: int = self._chosen.actors
        at = self._draw.randrange(min(HOT_ACTORS, actors) if self._draw.random() < HOT else actors)
        if verb == "fetch" and at == actors - 1:
            verb = "add"
        argument: Any = None
        match verb:
            case "add" | "write":
                argument = self._draw.randrange(1, 100)
            case "forward":
                argument = [f"a{self._draw.randrange(actors)}" for _ in range(self._draw.randrange(1, 4))]
            case "later":
                argument = self._draw.randrange(1, 3_000)
            case "fetch":  # only ever upwards, so that no two wait for each other
                argument = f"a{self._draw.randrange(at + 1, actors)}"
            case _:
                pass
        key = f"a{at}"
        operation = {"id": f"{self._name}-{number}", "client": self._name, "actor": f"{KIND}/{key}", "verb": verb}
        return {**operation, "argument": argument, "invoked_s": time.monotonic(), "outcome": "unknown", "tries": 0}, way

    async def _carry_out(self, operation: dict[str, Any], way: str) -> None:
        """Tries until the outcome is known or patience is over."""
        body = {"type": operation["verb"].capitalize(), "op": operation["id"]}
        if operation["argument"] is not None:
            body["argument"] = operation["argument"]
        patience_s = 0.0 if self._draw.random() < IMPATIENT else PATIENCE_S
        errors: list[str] = []
        while operation["outcome"] == "unknown":
            operation["tries"] += 1
            error = await self._try(operation, way, json.dumps(body).encode())
            if error is not None:
                errors.append(error)
                if time.monotonic() - operation["invoked_s"] > patience_s:
                    break
                await asyncio.sleep(PAUSE_S)
        operation["errors"] = errors[-3:]

    async def _try(self, operation: dict[str, Any], way: str, body: bytes) -> str | None:
        """Sends it once; what is wrong when the outcome is still unknown."""
        kind, key = operation["actor"].split("/")
        headers = {"Rg-Id": operation["id"]}
        try:
            if way == "tell":
                await self._js.publish(f"rg.{self._chosen.app}.in.{kind}.{key}", body, headers=headers)
            else:
                subject = f"rg.{self._chosen.app}.ask.{kind}.{key}"
                reply = await self._client.request(subject, body, timeout=TRY_TIMEOUT_S, headers=headers)
                if "Nats-Service-Error" in (reply.headers or {}):
                    return reply.data.decode()
                operation["reply"] = json.loads(reply.data)
        except APIError as error:
            if error.err_code == MAILBOX_FULL and operation["tries"] == 1:
                operation["outcome"] = "refused"
                return None
            return repr(error)
        except (NatsError, OSError, TimeoutError) as error:
            return repr(error)
        operation["outcome"] = "acked"
        operation["ended_s"] = time.monotonic()
        return None


async def load(chosen: argparse.Namespace, out: TextIO) -> None:
    """All clients at once, for the time chosen."""
    client = await connected(chosen.url)
    until_s = time.monotonic() + chosen.seconds
    async with asyncio.TaskGroup() as senders:
        for number in range(chosen.clients):
            senders.create_task(Sender(number, chosen, client, out).run(until_s))
    await client.close()


async def read(chosen: argparse.Namespace, out: TextIO) -> None:
    """Writes one JSON object with the final states, the logs, the dead letters and the number of messages left."""
    client = await connected(chosen.url)
    js = client.jetstream(timeout=10.0)
    left = await empty_mailboxes(js, chosen)
    logs = await read_logs(js, chosen.app)
    finals = [await show(client, chosen.app, f"a{at}", logs) for at in range(chosen.actors)]
    dead = [message.data.decode() async for message in stored(js, f"RG_{chosen.app}_DLQ", f"rg.{chosen.app}.dlq.>")]
    out.write(json.dumps({"finals": finals, "dead_letters": dead, "mail_left": left}))
    await client.close()


async def empty_mailboxes(js: JetStreamContext, chosen: argparse.Namespace) -> int:
    """Waits until nothing is in them; how many messages are, when the time is over."""
    until_s = time.monotonic() + chosen.wait
    while True:
        states = [(await js.stream_info(f"RG_{chosen.app}_{box}")).state for box in ("IN", "ACT")]
        left = sum(state.messages for state in states)
        if not left or time.monotonic() > until_s:
            return left
        await asyncio.sleep(PAUSE_S)


async def show(client: Client, app: str, key: str, logs: dict[str, list[Any]]) -> dict[str, Any]:
    """What an actor answers about itself, and what its log says."""
    reply = await client.request(f"rg.{app}.ask.{KIND}.{key}", b'{"type":"Show"}', timeout=60.0)
    if "Nats-Service-Error" in (reply.headers or {}):
        raise SystemExit(f"{KIND}/{key} cannot be read: {reply.data.decode()}")
    return {"actor": f"{KIND}/{key}", **json.loads(reply.data), "logged": logs.get(key, [])}


async def read_logs(js: JetStreamContext, app: str) -> dict[str, list[Any]]:
    """By key what the records of the event log make of each actor's list."""
    logs: dict[str, list[Any]] = {}
    for number in range(LOG_STREAMS):
        async for message in stored(js, f"RG_{app}_EVT_{number}", f"rg.{app}.evt.{number}.>"):
            key = message.subject.rpartition(".")[2]
            for entry in json.loads(message.data)["entries"]:
                if entry["type"] == "Snapshot":
                    logs[key] = entry["image"]["state"]["applied"]
                for fact in entry.get("events", ()):
                    if fact["type"] == "Applied":
                        logs.setdefault(key, []).append([fact["op"], fact["result"]])
    return logs


async def stored(js: JetStreamContext, stream: str, subject: str) -> AsyncIterator[Msg]:
    """All messages that a stream holds now, oldest first."""
    left = (await js.stream_info(stream)).state.messages
    if not left:
        return
    subscription = await js.subscribe(subject, stream=stream, ordered_consumer=True)
    while left:
        message = await subscription.next_msg(timeout=10.0)
        left = message.metadata.num_pending
        yield message
    await subscription.unsubscribe()


async def connected(url: str) -> Client:
    """A connection that never gives up and says nothing of it."""

    async def silent(error: Exception) -> None:
        pass

    while True:
        try:
            return await nats.connect(
                url, max_reconnect_attempts=-1, reconnect_time_wait=PAUSE_S, ping_interval=5, error_cb=silent
            )
        except (NatsError, NatsTimeout, OSError):
            await asyncio.sleep(PAUSE_S)


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=["load", "read"])
    parser.add_argument("url")
    parser.add_argument("app")
    parser.add_argument("file")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--actors", type=int, default=300)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wait", type=float, default=120.0)
    chosen = parser.parse_args()
    with Path(chosen.file).open("w", buffering=1) as out:
        asyncio.run(load(chosen, out) if chosen.task == "load" else read(chosen, out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
