"""Steering one actor from the command line: suspend it, let it go on, watch what it does."""

import argparse
import asyncio
import json
from datetime import UTC, datetime

import msgspec

from regrow.actors.administration import Administration
from regrow.actors.trace import Traced
from regrow.cli.failures import CommandFailed
from regrow.cli.say import say


async def suspend(administration: Administration, chosen: argparse.Namespace) -> None:
    """Lets the actor take no more mail, and says how it was."""
    changed = await administration.suspend(chosen.kind, chosen.key, wait_s=chosen.wait)
    if chosen.json:
        _print(chosen, suspended=True, changed=changed)
    elif changed:
        print(f"{chosen.kind}/{chosen.key} is suspended: its mail waits until it is resumed, or its node ends")
    else:
        print(f"{chosen.kind}/{chosen.key} was suspended already")


async def resume(administration: Administration, chosen: argparse.Namespace) -> None:
    """Lets the actor take its mail again, and says how it was."""
    changed = await administration.resume(chosen.kind, chosen.key, wait_s=chosen.wait)
    if chosen.json:
        _print(chosen, suspended=False, changed=changed)
    elif changed:
        print(f"{chosen.kind}/{chosen.key} takes its mail again")
    else:
        print(f"{chosen.kind}/{chosen.key} was not suspended")


async def trace(administration: Administration, chosen: argparse.Namespace) -> None:
    """Prints what the actor does until the time is over, or for ever."""
    async with administration.trace(chosen.kind, chosen.key, wait_s=chosen.wait) as told:
        say(f"{chosen.kind}/{chosen.key} is traced")
        try:
            async with asyncio.timeout(chosen.time):
                async for each in told:
                    print(msgspec.json.encode(each).decode() if chosen.json else line(each), flush=True)
        except TimeoutError:
            return


def check_live(chosen: argparse.Namespace) -> None:
    """Raises ``CommandFailed`` where no node runs that could be told anything."""
    if chosen.store is not None:
        raise CommandFailed(
            f"in a store that is not served no actor runs: {chosen.action} it where its node runs, with --nats"
        )


def line(told: Traced) -> str:
    """One thing that an actor did, for people."""
    at = f"{datetime.fromtimestamp(told.at_ms / 1000, UTC):%H:%M:%S.%f}"[:-3]
    match told.what:
        case "step began" | "step ended":
            took = f" after {told.took_ms:g} ms" if told.what == "step ended" else ""
            more = f"{told.tool} #{told.step}{took}"
        case "began":
            more = f"attempt {told.attempt} at message {told.id}"
        case "lost":
            more = f"{told.lost:,} things came too fast to be told"
        case _:
            more = " ".join(each for each in (told.type, told.id and f"message {told.id}") if each)
    failed = f", failed: {told.failure}" if told.failure else ""
    return f"{at}  {told.what:10}  {more}{failed}"


def _print(chosen: argparse.Namespace, **said: bool) -> None:
    print(json.dumps({"v": 1, "kind": chosen.kind, "key": chosen.key, **said}))
