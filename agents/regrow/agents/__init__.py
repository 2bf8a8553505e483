"""Agents: durable actors with a model, tool agents on a queue, and the food catalogue's four tiers as a worked example."""

from regrow.agents.agent import Agent, ModelPort
from regrow.agents.tool_agent import ToolAgent

__all__ = ["Agent", "ModelPort", "ToolAgent"]
