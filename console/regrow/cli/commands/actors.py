"""``regrow actors``: who there is, how one stands, what one does, and who shall be no more."""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from regrow.actors import System
from regrow.actors.administration import Administration
from regrow.actors.overview import Overview, image_of
from regrow.bus import Address, NatsBus
from regrow.cli import steering
from regrow.cli.commands.dead_letters import when
from regrow.cli.failures import CommandFailed
from regrow.cli.operators import WAIT_S
from regrow.cli.say import say
from regrow.cli.target import on_bus


def run(chosen: argparse.Namespace) -> int:
    """Lists, shows, steers, deletes or purges."""
    if chosen.action == "purge":
        if chosen.idle is not None and chosen.kind is None:
            raise CommandFailed("--idle is for the actors of one kind: give --kind as well")
        if chosen.idle is None and not chosen.prefix:
            raise CommandFailed("all actors are not deleted at once: give --prefix, or --kind and --idle")
    return on_bus(_act, chosen)


async def _act(system: System, bus: NatsBus, chosen: argparse.Namespace) -> int:
    administration = Administration(bus)
    match chosen.action:
        case "list":
            _print_actors(await administration.actors(chosen.kind, chosen.prefix), as_json=chosen.json)
        case "show":
            await _show(system, bus, administration, chosen)
        case "delete":
            await _delete(system, administration, chosen)
        case "cancel":
            await _cancel(system, administration, chosen)
        case "suspend" | "resume" | "trace":
            steering.check_live(chosen)
            _check_kind(system, chosen.kind)
            await {"suspend": steering.suspend, "resume": steering.resume, "trace": steering.trace}[chosen.action](
                administration, chosen
            )
        case _:
            await _purge(system, administration, chosen)
    return 0


async def _show(system: System, bus: NatsBus, administration: Administration, chosen: argparse.Namespace) -> None:
    overview = await administration.show(chosen.kind, chosen.key)
    payload = await _payload(system, bus, administration, chosen) if chosen.payload else {}
    if chosen.json:
        print(json.dumps({"v": 1, **msgspec.to_builtins(overview), **payload}))
        return
    for name, value in (*described(overview), *((name, json.dumps(value)) for name, value in payload.items())):
        print(f"{name:14} {value}")


async def _payload(
    system: System, bus: NatsBus, administration: Administration, chosen: argparse.Namespace
) -> dict[str, Any]:
    """The actor's state, and the message of its open turn, as JSON."""
    _check_kind(system, chosen.kind)
    actor = system.kinds[chosen.kind].actor
    found: dict[str, Any] = {"state": await administration.get_state(actor, chosen.key)}
    opened = image_of(await bus.log.read(Address(chosen.kind, chosen.key))).opened
    if opened is not None:
        found["message"] = json.loads(bytes(opened.letter.body))
    return found


def described(overview: Overview) -> list[tuple[str, str]]:
    """How an actor stands, for people, name by name."""
    said = [
        ("actor", f"{overview.kind}/{overview.key}" + (" (deleted)" if overview.deleted else "")),
        ("last record", f"{when(overview.time_ns)}, sequence {overview.sequence}, {overview.records} in the log"),
        ("mail taken", f"in up to {overview.in_seq}, act up to {overview.act_seq}"),
    ]
    for name, due_ms in overview.timers.items():
        said.append(("timer", f"{name!r} is due {datetime.fromtimestamp(due_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"))
    if overview.outbox:
        said.append(("outbox", "what the last turn decided may not all be out"))
    if (turn := overview.opened) is not None:
        for_whom = [*turn.asks, *([f"{turn.sleeps} sleeps"] if turn.sleeps else [])]
        waits = f", waits for {', '.join(for_whom)}" if for_whom else ""
        waits += " in no process (suspended)" if turn.suspended else ""
        waits += f", {turn.checkpoints} checkpoints" if turn.checkpoints else ""
        failed = f", {turn.attempts} attempts failed: {turn.failure}" if turn.attempts else ""
        said.append(("open turn", f"message {turn.id} out of {turn.box}, {turn.steps} steps recorded{waits}{failed}"))
        said += [
            ("begun step", f"{step.tool}, attempt {step.attempt}" + (", never repeated" if step.once else ""))
            for step in turn.started
        ]
    return said


async def _delete(system: System, administration: Administration, chosen: argparse.Namespace) -> None:
    _check_kind(system, chosen.kind)
    wait_s = _wait_s(chosen)
    dropped = await administration.delete(chosen.kind, chosen.key, wait_s=wait_s)
    deleted = (await administration.show(chosen.kind, chosen.key)).deleted
    if chosen.json:
        said = {"v": 1, "kind": chosen.kind, "key": chosen.key, "deleted": deleted, "dead_letters": dropped}
        print(json.dumps(said))
    elif deleted:
        print(f"{chosen.kind}/{chosen.key} is deleted, with {dropped} dead letters")
    else:
        print(
            f"{chosen.kind}/{chosen.key} will be deleted as soon as a node serves it; {dropped} dead letters are dropped"
        )


async def _cancel(system: System, administration: Administration, chosen: argparse.Namespace) -> None:
    _check_kind(system, chosen.kind)
    if chosen.store is not None:
        raise CommandFailed("in a store that is not served no turn runs: cancel it where its node runs, with --nats")
    done = await administration.cancel(chosen.kind, chosen.key, chosen.reason, wait_s=_wait_s(chosen))
    if chosen.json:
        print(json.dumps({"v": 1, "kind": chosen.kind, "key": chosen.key, "cancelled": done}))
    elif done:
        print(f"the running turn of {chosen.kind}/{chosen.key} is cancelled")
    else:
        print(f"{chosen.kind}/{chosen.key} runs no turn: there was nothing to cancel")


async def _purge(system: System, administration: Administration, chosen: argparse.Namespace) -> None:
    kind: str | None = chosen.kind
    if kind is not None:
        _check_kind(system, kind)
    if kind is not None and chosen.idle is not None:
        found = await administration.idle(kind, chosen.idle, chosen.prefix)
    else:
        found = await administration.actors(kind, chosen.prefix)
    served = [each for each in found if each.kind in system.kinds]
    if left := len(found) - len(served):
        say(f"{left:,} actors are of kinds that {system.name} has no more: they stay, for no node can delete them")
    if chosen.dry_run:
        _print_actors(served, as_json=chosen.json)
        return
    wait_s = _wait_s(chosen)
    purged = await administration.delete_all(served, wait_s=wait_s)
    waiting = len(purged.waiting)
    if chosen.json:
        said = {"v": 1, "deleted": purged.deleted, "waiting": waiting, "dead_letters": purged.dead_letters}
        print(json.dumps(said))
    else:
        later = f", {waiting:,} will be as soon as a node serves them" if waiting else ""
        print(f"{purged.deleted:,} actors are deleted{later}, {purged.dead_letters:,} dead letters are dropped")
    if waiting and wait_s:
        raise CommandFailed(
            f"{waiting:,} actors were not deleted within {wait_s:g} s; their orders wait in their mailboxes"
        )


def _check_kind(system: System, kind: str) -> None:
    """Raises ``CommandFailed`` for a kind that no node of the application has: its order would become a dead letter."""
    if kind not in system.kinds:
        known = ", ".join(sorted(system.kinds)) or "none"
        raise CommandFailed(f"{system.name} has no actors of kind {kind!r}; its kinds are: {known}")


def _wait_s(chosen: argparse.Namespace) -> float:
    """How long to wait: on a store that is not served nobody carries anything out."""
    if chosen.wait is not None:
        wait_s: float = chosen.wait
        return wait_s
    return WAIT_S if chosen.store is None else 0.0


def _print_actors(found: Sequence[Address], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"v": 1, "actors": [{"kind": each.kind, "key": each.key} for each in found]}))
        return
    for each in found:
        print(each)
