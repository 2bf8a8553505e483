"""An outside program: it knows NATS and the names on the wire, and nothing of regrow. ``python plain_client.py URL APP``.

It prints what it saw as one JSON object.
"""

import asyncio
import json
import sys
from typing import Any

import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

URL, APP = sys.argv[1:3]
ASK = f"rg.{APP}.ask.counter.a"


def shown(message: Msg) -> dict[str, Any]:
    return {"body": json.loads(message.data), "headers": dict(message.headers or {})}


async def log_subject(js: JetStreamContext) -> str:
    """The log is in one of sixteen streams; a reader who does not want to compute which looks into each."""
    for number in range(16):
        subject = f"rg.{APP}.evt.{number}.counter.a"
        try:
            await js.get_last_msg(f"RG_{APP}_EVT_{number}", subject)
        except NotFoundError:
            continue
        return subject
    raise LookupError("counter a has no log")


async def main() -> None:
    nc = await nats.connect(URL)
    js = nc.jetstream()
    live = await nc.subscribe(f"rg.{APP}.live.counter.a")
    await nc.flush()

    async def ask(body: bytes, subject: str = ASK, headers: dict[str, str] | None = None) -> dict[str, Any]:
        return shown(await nc.request(subject, body, timeout=10.0, headers=headers))

    seen: dict[str, Any] = {
        "added": await ask(b'{"type":"Add","amount":2}'),
        "refused": await ask(b'{"type":"Spend","amount":50}'),
        "unknown": await ask(b'{"type":"Sub"}'),
        "undecodable": await ask(b'{"type":"Add","amount":"2"}'),
        "no such key": await ask(b'{"type":"Add","amount":2}', f"rg.{APP}.ask.counter.=zz"),
        "first": await ask(b'{"type":"Add","amount":3}', headers={"Rg-Id": "mine"}),
        "again": await ask(b'{"type":"Add","amount":3}', headers={"Rg-Id": "mine"}),
        "queried": await ask(b'{"type":"Total"}'),
    }
    inbox = nc.new_inbox()
    replies = await nc.subscribe(inbox)
    told = await js.publish(f"rg.{APP}.in.counter.a", b'{"type":"Add","amount":4}', headers={"Rg-Reply": inbox})
    seen["stored in"] = told.stream
    seen["told"] = shown(await replies.next_msg(timeout=10.0))
    seen["live"] = [shown(await live.next_msg(timeout=10.0))["body"] for _ in range(4)]
    events = await js.subscribe(await log_subject(js), ordered_consumer=True)
    seen["log"] = [shown(await events.next_msg(timeout=10.0))["body"] for _ in range(4)]
    seen["knows regrow"] = any(name.split(".")[0] == "regrow" for name in sys.modules)
    await nc.close()
    sys.stdout.write(json.dumps(seen))


asyncio.run(main())
