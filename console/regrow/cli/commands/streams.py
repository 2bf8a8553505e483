"""``regrow streams``: the streams of an application, made where they are missing, compared with their definitions."""

import argparse
import json
from collections.abc import Sequence

import msgspec

from regrow.actors import load_system
from regrow.bus import Finding, check_store, make_store
from regrow.cli.failures import CommandFailed
from regrow.cli.session import run_until_stopped
from regrow.cli.target import reached


def run(chosen: argparse.Namespace) -> int:
    """Prints each stream and how it is; fails when one is missing or differs."""
    name = load_system(chosen.app).name
    create = chosen.action == "create"
    findings: list[Finding] = []

    async def look() -> int:
        async with reached(chosen, name, new=create) as client:
            found = make_store(client, name, replicas=chosen.replicas) if create else check_store(client, name)
            findings.extend(await found)
        return 0

    run_until_stopped(look())
    if chosen.json:
        streams = [msgspec.to_builtins(each) for each in findings]
        print(json.dumps({"v": 1, "app": name, "streams": streams}))
    else:
        for each in findings:
            print(f"{each.stream:24} {said(each)}")
    if wrong := summary(findings):
        raise CommandFailed(
            f"{wrong}; {'nodes do not start on them' if create else 'regrow streams create makes those that are missing'}"
        )
    return 0


def said(finding: Finding) -> str:
    """How a stream is, for people."""
    return f"differs in {finding.setting}" if finding.state == "differs" else finding.state


def summary(findings: Sequence[Finding]) -> str:
    """What is wrong with the streams; empty when nothing is."""
    missing = sum(each.state == "missing" for each in findings)
    differ = [each for each in findings if each.state == "differs"]
    parts = [f"{missing} of {len(findings)} streams are missing"] if missing else []
    parts += [f"{each.stream} {said(each)}" for each in differ]
    return ", ".join(parts)
