"""``regrow check``: whose logs no longer fit this build, before it is started."""

import argparse
import json
from collections import Counter

from regrow.actors import System
from regrow.actors.checking import Finding, check
from regrow.bus import NatsBus
from regrow.cli.say import say
from regrow.cli.target import on_bus

MISFITS = 7
"""The exit code when the log of an actor no longer fits."""


def run(chosen: argparse.Namespace) -> int:
    """Checks every actor; prints those that do not fit, or with ``--json`` a line for each."""
    return on_bus(_act, chosen)


async def _act(system: System, bus: NatsBus, chosen: argparse.Namespace) -> int:
    found: Counter[str] = Counter()
    async for finding in check(system, bus):
        found[finding.misfit.kind if finding.misfit is not None else ""] += 1
        if chosen.json:
            print(json.dumps(document(finding)), flush=True)
        elif finding.misfit is not None:
            print(f"{finding.address}  {finding.misfit.kind}: {finding.misfit.message}", flush=True)
    fitting = found.pop("", 0)
    misfits = found.total()
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.items()))
    of_them = f"; {misfits:,} no longer fit and would wait: {kinds}" if misfits else ""
    say(f"{fitting + misfits:,} actors checked, {fitting:,} fit this build{of_them}")
    return MISFITS if misfits else 0


def document(finding: Finding) -> dict[str, object]:
    """A finding as a line of JSON has it; ``kind`` and ``why`` are empty where the log fits."""
    misfit = finding.misfit
    kind, why = (misfit.kind, misfit.message) if misfit is not None else ("", "")
    return {"v": 1, "actor": str(finding.address), "fits": finding.fits, "kind": kind, "why": why}
