"""Five ways for a process to die are five causes, for its supervisor and for the process that is started in its place."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.workers.conftest import Witness
from tests.workers.observed import Observed

from regrow.supervisor import Intensity, Supervisor
from regrow.supervisor.exits import Crashed, Exit, Exited, Killed, OutOfMemory, TimedOut
from regrow.workers import ChildError, Process, cause_from_json, python_process

APPS = Path(__file__).parent / "apps"
MEMORY_MAX = 64 << 20
FIVE: list[tuple[str, dict[str, Any], Exit]] = [
    ("signal", {}, Killed(9)),
    ("memory", {"memory_max_bytes": MEMORY_MAX}, OutOfMemory(MEMORY_MAX, None)),
    ("time", {"timeout_s": 1.0}, TimedOut(1.0)),
    ("code", {}, Exited(3)),
    ("exception", {}, Crashed(ChildError("ValueError", "no such route"))),
]


def mortal(function: str, witness: Witness, death: str = "", **options: Any) -> Process:
    env = {**os.environ, "PYTHONPATH": str(APPS), "DEATH": death, "WITNESS": str(witness.path)}
    return python_process("mortal", f"children:{function}", env=env, stop_s=0.5, **options)


@pytest.mark.asyncio
@pytest.mark.parametrize(("death", "options", "cause"), FIVE, ids=[each[0] for each in FIVE])
async def test_the_cause_of_death_is_known_to_the_supervisor_and_to_the_next_incarnation(
    death: str, options: dict[str, Any], cause: Exit, witness: Witness
) -> None:
    child = Observed(mortal("dies_once", witness, death, **options))
    async with Supervisor("root", children=[child.child()], intensity=Intensity(limit=20)) as tree:
        assert (await child.starts.get()).cause is None
        said, _ = await witness.wait_said()
        start = await child.starts.get()
        (info,) = tree.which_children()
        assert info.last == start.cause
        restarts, _, told = said.partition(" ")
        assert int(restarts) == start.restarts == 1
        for seen in (start.cause, cause_from_json(told)):
            if isinstance(seen, OutOfMemory):
                assert seen.peak_bytes is not None
                assert seen.peak_bytes > seen.limit_bytes
                seen = OutOfMemory(seen.limit_bytes, None)
            assert seen == cause


@pytest.mark.asyncio
async def test_a_memory_error_under_a_limit_of_addresses_is_out_of_memory(witness: Witness) -> None:
    limit = 4 << 30
    child = Observed(mortal("wants_too_much", witness, address_space_max_bytes=limit))
    async with Supervisor("root", children=[child.child(restart="temporary")]):
        cause = await child.ends.get()
        assert isinstance(cause, OutOfMemory)
        assert cause.limit_bytes == limit


@pytest.mark.asyncio
async def test_a_memory_error_without_a_limit_is_an_exception_like_any_other(witness: Witness) -> None:
    child = Observed(mortal("wants_too_much", witness))
    async with Supervisor("root", children=[child.child(restart="temporary")]):
        assert await child.ends.get() == Crashed(ChildError("MemoryError", ""))


@pytest.mark.asyncio
async def test_a_coroutine_function_in_a_process_puts_its_things_away_when_it_is_asked_to_go(witness: Witness) -> None:
    child = Observed(mortal("serves", witness))
    async with Supervisor("root", children=[child.child()]):
        assert (await witness.wait_said())[0] == "serving"
    assert (await witness.wait_said())[0] == "put away"
