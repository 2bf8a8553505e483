"""What operators can type: streams, dead letters, actors, backups. Imports nothing heavy."""

import argparse
import re
from pathlib import Path
from typing import Any

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
WAIT_S = 30.0
ORDER_S = 5.0
LOOK_S = 2.0

Commands = Any
"""What ``add_subparsers`` gives: argparse does not name its type."""


def add_operators(commands: Commands) -> None:
    """Adds the commands to the grammar."""
    _streams(commands.add_parser("streams", help="make or check the streams of an application"))
    _dead_letters(commands.add_parser("dead-letters", help="look at messages that were given up, replay or drop them"))
    _actors(commands.add_parser("actors", help="look at an application's actors, delete one or many"))
    _cache(commands.add_parser("cache", help="count what an application's tools share, or let go of it"))
    tree = commands.add_parser(
        "tree", help="how the nodes that run now stand: supervisors, actors, who waits for whom, cycles of asks"
    )
    _target(tree)
    tree.add_argument(
        "--wait", type=duration, default=LOOK_S, metavar="TIME", help=f"for nodes to answer ({LOOK_S:g}s)"
    )
    _json(tree)
    check = commands.add_parser(
        "check", help="which actors would wait, were this build started: their logs no longer fit it; ends with 7 then"
    )
    _target(check)
    _json(check)
    backup = commands.add_parser("backup", help="copy all streams of an application to a directory")
    _target(backup)
    backup.add_argument("folder", type=Path, metavar="DIR", help="where to, new or empty")
    backup.add_argument(
        "--force", action="store_true", help="although shards are held: no node runs, one has died without letting go"
    )
    restore = commands.add_parser("restore", help="make all streams of an application from a backup")
    _target(restore)
    restore.add_argument("folder", type=Path, metavar="DIR", help="what 'regrow backup' has written")
    for command in (backup, restore):
        _json(command)


def _streams(command: argparse.ArgumentParser) -> None:
    actions = _actions(command)
    create = _action(actions, "create", "make the streams that are missing; those that are there are left as they are")
    create.add_argument(
        "--replicas", type=int, choices=(1, 3, 5), default=1, help="copies of each new stream (default 1)"
    )
    _json(create)
    _json(_action(actions, "check", "compare the streams with their definitions; fails when one differs"))


def _dead_letters(command: argparse.ArgumentParser) -> None:
    actions = _actions(command)
    listed = _action(actions, "list", "those that wait for somebody's decision, oldest first")
    listed.add_argument("--kind", metavar="K", help="of actors of this kind")
    listed.add_argument("--key", metavar="KEY", help="of the actor with this key; needs --kind")
    _json(listed)
    for name, help_text in (
        ("show", "one of them, whole"),
        ("replay", "put one into the mailbox that it came from once more, and drop it here"),
        ("drop", "remove one for good"),
    ):
        one = _action(actions, name, help_text)
        one.add_argument("sequence", type=int, metavar="SEQUENCE", help="its number in the list")
        _json(one)


def _actors(command: argparse.ArgumentParser) -> None:
    actions = _actions(command)
    listed = _action(actions, "list", "every actor that has a log, those included that were deleted")
    listed.add_argument("--kind", metavar="K", help="those of this kind")
    listed.add_argument("--prefix", metavar="P", default="", help="those whose keys begin so")
    _json(listed)
    show = _action(actions, "show", "how an actor stands: its log, mailboxes, timers, open turn")
    _actor(show)
    show.add_argument("--payload", action="store_true", help="its state, and the message of its open turn, as well")
    _json(show)
    delete = _action(actions, "delete", "delete an actor: state, timers, waiting mail, dead letters")
    _actor(delete)
    cancel = _action(actions, "cancel", "end the running turn of an actor; its handler may clean up")
    _actor(cancel)
    cancel.add_argument("--reason", metavar="TEXT", default="by an operator", help="what whoever asked is told")
    cancel.add_argument(
        "--wait", type=duration, metavar="TIME", help=f"for the node that does it (default {WAIT_S:g}s)"
    )
    _json(cancel)
    for name, help_text in (
        ("suspend", "let an actor take no more mail; it waits until the actor is resumed, or its node ends"),
        ("resume", "let an actor take its mail again"),
        ("trace", "print what an actor does, live: messages taken, steps, turns recorded; never what was said"),
    ):
        steered = _action(actions, name, help_text)
        _actor(steered)
        steered.add_argument(
            "--wait", type=duration, default=ORDER_S, metavar="TIME", help=f"for its node to answer ({ORDER_S:g}s)"
        )
        if name == "trace":
            steered.add_argument("--time", type=duration, metavar="TIME", help="stop after so long (default: never)")
        _json(steered)
    purge = _action(actions, "purge", "delete many actors: by the beginning of their keys, or those that are idle")
    purge.add_argument("--kind", metavar="K", help="those of this kind")
    purge.add_argument("--prefix", metavar="P", default="", help="those whose keys begin so; end it as the keys do")
    purge.add_argument(
        "--idle",
        type=duration,
        metavar="TIME",
        help="those without a record for so long, such as 90d or 12h; needs --kind",
    )
    purge.add_argument("--dry-run", action="store_true", help="only print who would be deleted")
    for each in (delete, purge):
        each.add_argument(
            "--wait",
            type=duration,
            metavar="TIME",
            help=f"how long to wait for the node that carries it out (default {WAIT_S:g}s; 0s with --store, where none runs)",
        )
        _json(each)


def _cache(command: argparse.ArgumentParser) -> None:
    actions = _actions(command)
    stats = _action(actions, "stats", "results that are shared now, by tool")
    purge = _action(actions, "purge", "let go of results; what is recorded in logs stays as it is")
    purge.add_argument("--tag", metavar="TAG", help="those with this tag")
    purge.add_argument("--all", action="store_true", help="all of them")
    for each in (stats, purge):
        each.add_argument("--tool", metavar="NAME", help="those of this tool")
        _json(each)


def _actions(command: argparse.ArgumentParser) -> Commands:
    return command.add_subparsers(dest="action", required=True, metavar="ACTION")


def _action(actions: Commands, name: str, help_text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=help_text)
    _target(action)
    return action


def _target(command: argparse.ArgumentParser) -> None:
    """Which application, on which server."""
    command.add_argument("app", metavar="APP", help="module:attribute, such as hello:app")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--nats", metavar="URL", help="the server (default: NATS_URL, or the selected NATS context)")
    where.add_argument(
        "--store", type=Path, metavar="DIR", help="the store of an embedded server that does not run now"
    )
    command.add_argument("--context", help="a NATS context by name")
    command.add_argument("--creds", type=Path, help="a credentials file")


def _actor(command: argparse.ArgumentParser) -> None:
    command.add_argument("kind", metavar="KIND")
    command.add_argument("key", metavar="KEY")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def duration(text: str) -> float:
    """Seconds in ``90d``, ``12h``, ``30m``, ``45s``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write a number and s, m, h or d, such as 90d")
    return float(found[1]) * _UNITS_S[found[2]]
