"""``regrow dead-letters``: messages that were given up, for a person to decide on."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from regrow.actors import System
from regrow.actors.dead_letter import DeadLetter, DeadLetters
from regrow.bus import NatsBus
from regrow.cli.failures import CommandFailed
from regrow.cli.target import on_bus

LINE_CHARS_MAX = 160


def run(chosen: argparse.Namespace) -> int:
    """Lists, shows, replays or drops."""
    if chosen.action == "list" and chosen.key is not None and chosen.kind is None:
        raise CommandFailed("--key names an actor only together with its kind: give --kind as well")
    return on_bus(_act, chosen)


async def _act(_: System, bus: NatsBus, chosen: argparse.Namespace) -> int:
    letters = DeadLetters(bus)
    match chosen.action:
        case "list":
            _print_list(await letters.list(chosen.kind, chosen.key), as_json=chosen.json)
        case "show":
            _print_one(await letters.show(chosen.sequence), "dead letter", as_json=chosen.json)
        case "replay":
            _print_done(await letters.replay(chosen.sequence), "replayed", as_json=chosen.json)
        case _:
            dead = await letters.show(chosen.sequence)
            await letters.drop(chosen.sequence)
            _print_done(dead, "dropped", as_json=chosen.json)
    return 0


def line(dead: DeadLetter) -> str:
    """One dead letter in one line: number, time, actor, cause."""
    cause = " ".join(f"{dead.cause.kind}: {dead.cause.message}".split())
    return f"{dead.sequence:>6}  {when(dead.time_ns)}  {dead.kind}/{dead.key}  {cause}"[:LINE_CHARS_MAX]


def when(time_ns: int) -> str:
    """A time of the server for people."""
    return f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}Z"


def _print_list(found: Sequence[DeadLetter], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({"v": 1, "dead_letters": found}).decode())
        return
    for each in found:
        print(line(each))


def _print_one(dead: DeadLetter, what: str, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({"v": 1, "dead_letter": dead}).decode())
        return
    letter = dead.message
    print(f"{what} {dead.sequence} of {dead.kind}/{dead.key}, {when(dead.time_ns)}")
    print(f"cause    {dead.cause.kind}: {dead.cause.message}")
    print(
        f"message  {letter.id or '(no id)'} out of {letter.box}"
        + (f", sent by {letter.sender}" if letter.sender else "")
    )
    print(f"body     {bytes(letter.body).decode()}" + ("" if dead.coding == "json" else f"  ({dead.coding})"))


def _print_done(dead: DeadLetter, done: str, *, as_json: bool) -> None:
    if as_json:
        said = {"v": 1, "sequence": dead.sequence, "kind": dead.kind, "key": dead.key, done: True}
        print(msgspec.json.encode(said).decode())
    else:
        print(f"dead letter {dead.sequence} of {dead.kind}/{dead.key} is {done}")
