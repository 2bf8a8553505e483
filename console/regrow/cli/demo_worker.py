"""The demo's worker: the whole application in one process that may be killed at any moment."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from regrow.actors import Node
from regrow.actors.audit import audit
from regrow.agents.coordinator import Status
from regrow.agents.product import Product
from regrow.agents.question import constraint_ok
from regrow.agents.source import read_products
from regrow.cli.food_run import hosted, index, recommend
from regrow.cli.progress import Progress
from regrow.cli.run_store import Plan, Store
from regrow.cli.say import INTERRUPTED
from regrow.cli.session import run_until_stopped

QUESTIONS = (
    "like CHEDDAR CHEESE but less sodium",
    "like TOMATO SOUP but less sodium and more protein",
    "like GRANOLA but less sugar and more fiber",
)
STEPS_PER_PRODUCT = 13
LOOK_S = 0.002
"""How often it is looked whether the moment to be killed has come."""


def work(store: Store, chosen: argparse.Namespace) -> int:
    """Runs the application to its end and leaves the result in the store; with ``--kill`` it dies in the middle."""
    try:
        return run_until_stopped(_while_owned(_work(store, chosen)))
    except asyncio.CancelledError:  # the parent has said, or will never say, what there is to say
        return INTERRUPTED


async def _while_owned(main: Coroutine[Any, Any, int]) -> int:
    """Ends the work when the parent is gone, however it went: standard input is a pipe that only the parent holds."""
    task = asyncio.current_task()
    assert task is not None
    loop, owner = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if not os.read(owner, 4096):
            loop.remove_reader(owner)
            task.cancel()

    loop.add_reader(owner, read)
    try:
        return await main
    finally:
        loop.remove_reader(owner)


async def _work(store: Store, chosen: argparse.Namespace) -> int:
    plan = store.plan
    assert plan is not None
    async with hosted(store, chosen.durability, witnessed=True) as node:
        status = await _indexed(node, plan, kill=chosen.kill)
        answers = [await _judged(node, plan, question) for question in QUESTIONS]
        found = await audit(node.bus, store.witness)
        model: Any = node.system.ports["model"]
        result: dict[str, Any] = {
            "v": 1,
            "model": model.name,
            "source": Path(plan.source.path).name,
            "durability": chosen.durability,
            "products_indexed": status.products_done,
            "bad_rows": status.bad_rows,
            "steps_run": found.steps_run,
            "steps_from_log": node.host.statistics["steps_from_log"],
            "steps_executed_again": found.steps_executed_again,
            "in_flight_repeated": found.in_flight_repeated,
            "events": await node.bus.count_records(),
            "recommendations": answers,
        }
    store.result.write_text(json.dumps(result))
    return 0


async def _indexed(node: Node, plan: Plan, *, kill: bool) -> Status:
    """The finished run; told to kill, it never returns, but for a run that was finished before."""
    async with asyncio.TaskGroup() as beside:
        with Progress("products researched") as bar:

            def begin(status: Status) -> None:
                bar.begin(status.products_done, status.products)
                left = status.products - status.products_done
                if kill and left:
                    beside.create_task(_die(node, STEPS_PER_PRODUCT * left // 2))

            return await index(node, plan, on_plan=begin, on_progress=lambda status: bar.show(status.products_done))


async def _die(node: Node, steps: int) -> None:
    """Ends this process by SIGKILL once it has run so many steps, which is in the middle of many."""
    while node.host.statistics["steps_run"] < steps:  # noqa: ASYNC110 # a counter, of which nobody tells
        await asyncio.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGKILL)


async def _judged(node: Node, plan: Plan, question: str) -> dict[str, Any]:
    """An answer, and whether the columns of the source file bear it out: the agents have no part in the verdict."""
    answer = await recommend(node, question)
    rows = _rows(plan, {answer.base_id, answer.answer_id or ""})
    base, found = rows.get(answer.base_id), rows.get(answer.answer_id or "")
    return {
        "question": question,
        "answer": answer.answer_name,
        "answer_id": answer.answer_id,
        "base": base.name if base else None,
        "base_id": answer.base_id,
        "reason": answer.reason,
        "evidence": [{"id": each.id, "nutrient": each.nutrient, "value": each.value} for each in answer.evidence],
        "constraint_ok": base is not None and found is not None and constraint_ok(answer.wish, base, found),
    }


def _rows(plan: Plan, wanted: set[str]) -> dict[str, Product]:
    """Rows of the source file, read anew."""
    source = plan.source
    products = read_products(Path(source.path), source.id_column, source.text_column)
    return {row.id: row for row in products if isinstance(row, Product) and row.id in wanted}
