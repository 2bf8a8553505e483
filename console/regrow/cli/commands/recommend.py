"""``regrow recommend``: a question about an indexed catalogue."""

import argparse

import msgspec

from regrow.agents.card import Recommendation
from regrow.cli.failures import CommandFailed
from regrow.cli.food_run import hosted, recommend
from regrow.cli.run_store import Store
from regrow.cli.session import run_until_stopped


def run(chosen: argparse.Namespace) -> int:
    """Prints the answer with the numbers of the rows that it rests on."""
    store = Store(chosen.store)
    if store.plan is None:
        raise CommandFailed(f"nothing is indexed in {store.path}; first: regrow index --store {store.path}")
    return run_until_stopped(_recommend(store, chosen))


async def _recommend(store: Store, chosen: argparse.Namespace) -> int:
    async with hosted(store, chosen.durability) as node:
        answer = await recommend(node, chosen.question)
    if chosen.json:
        print(msgspec.json.encode({"v": 1, **msgspec.to_builtins(answer)}).decode())
    else:
        print(shown(answer))
    return 0


def shown(answer: Recommendation) -> str:
    """A recommendation for people."""
    if answer.answer_id is None:
        return f"nothing fits: {answer.reason}"
    rows = "\n".join(f"  row {each.id}: {each.nutrient} {each.value:g}" for each in answer.evidence)
    return f"{answer.answer_name} (row {answer.answer_id}): {answer.reason}\ncompared with row {answer.base_id}\n{rows}"
