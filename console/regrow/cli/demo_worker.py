"""The demo's worker: the whole application in one process that may be killed at any moment."""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from regrow.actors import Node
from regrow.agents.product import Product
from regrow.agents.question import constraint_ok
from regrow.agents.source import read_products
from regrow.cli.audit import audit
from regrow.cli.food_run import Plan, Store, hosted, index, recommend
from regrow.cli.progress import Progress
from regrow.cli.session import run_until_stopped

QUESTIONS = (
    "like CHEDDAR CHEESE but less sodium",
    "like TOMATO SOUP but less sodium and more protein",
    "like GRANOLA but less sugar and more fiber",
)


def work(store: Store, chosen: argparse.Namespace) -> int:
    """Runs the application to its end and leaves the result in the store; with ``--kill`` it dies in the middle."""
    return run_until_stopped(_work(store, chosen))


async def _work(store: Store, chosen: argparse.Namespace) -> int:
    plan = store.plan
    assert plan is not None
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _owner_gone, task)
    async with hosted(store, chosen.durability, witnessed=True) as node:
        with Progress("products researched", 1) as bar:

            def show(done: int, of: int) -> None:
                bar.show(done)
                if chosen.kill and done >= of // 2:
                    os.kill(os.getpid(), signal.SIGKILL)

            status = await index(
                node,
                plan,
                on_plan=lambda status: bar.resize(status.products),
                on_progress=lambda status: show(status.products_done, status.products),
            )
        answers = [await _judged(node, plan, question) for question in QUESTIONS]
        found = await audit(node.bus, store.witness)
        result: dict[str, Any] = {
            "v": 1,
            "model": "rules",
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
    (store.path / "result.json").write_text(json.dumps(result))
    return 0


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


def _owner_gone(task: asyncio.Task[Any]) -> None:
    """The demo's parent is gone: so is the reason to go on."""
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        task.cancel()
