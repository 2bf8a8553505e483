"""The food application: four tiers that index a product catalogue and answer questions about it, ``regrow.agents.food:app``."""

import os

from regrow.actors import Kind, Policy, System
from regrow.agents.catalog import Catalog
from regrow.agents.coordinator import Coordinator, Lot
from regrow.agents.food_tools import (
    compare_candidates,
    convert_portion,
    find_base,
    find_candidates,
    place_in_category,
    search_similar,
)
from regrow.agents.researcher import Researcher
from regrow.agents.rules_food import food_rules
from regrow.agents.tool_agent import ToolAgent
from regrow.agents.witness import Witnessed
from regrow.models import Model, OpenAIModel

MODEL = "REGROW_MODEL"
"""``rules`` (the default: no language model is involved) or the name of a model behind ``REGROW_MODEL_URL``."""
MODEL_URL = "REGROW_MODEL_URL"
MODEL_KEY = "REGROW_MODEL_KEY"


def chosen_model() -> Model:
    """The model that the environment names."""
    name = os.environ.get(MODEL, "rules")
    if name == "rules":
        return food_rules()
    return OpenAIModel(name, base_url=os.environ.get(MODEL_URL), api_key=os.environ.get(MODEL_KEY))


AUDITED = Policy(history="keep")
"""Each step's record stays, so that what was executed can be held against what was recorded."""

app = System(
    "food",
    actors=[
        Catalog,
        Coordinator,
        Kind(actor=Lot, policy=AUDITED, active_max=64),
        Kind(actor=Researcher, policy=AUDITED, active_max=300, idle_max=1_000),
    ],
    children=[
        ToolAgent("search", tools=[search_similar, place_in_category, find_base, find_candidates], process=True),
        ToolAgent("nutrition", tools=[convert_portion, compare_candidates], size=64),
    ],
    ports={"model": Witnessed(chosen_model())},
    path="regrow.agents.food:app",
)
