"""Tool agents: tools served as a supervised child on a NATS queue, in this process or in one of their own."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog

from regrow.actors import DefinitionError, Node, Tool
from regrow.actors.remote import answer_call
from regrow.bus import Bus, Request
from regrow.supervisor import ChildSpec, Start
from regrow.workers import Process, process_child

_log = structlog.get_logger(__name__)

URL = "REGROW_TOOL_AGENT_URL"
"""The environment variable by which the process of a tool agent is told where the bus is."""
CREDS = "REGROW_TOOL_AGENT_CREDS"
"""The same for a credentials file, where the bus asks for one."""
READY = "ready"
"""What such a process prints when it serves."""
STOP_S = 3.0
"""How long a process may take to finish its calls after it was asked to stop."""


class ToolAgent:
    """Serves tools to every actor of the application; the call site is the same as for a tool that runs in place.

    ``size`` calls run at once, further ones wait. With ``process`` they run in a process of their own, which is started again
    when it dies; a call that it was running ends as ``StepFailed`` after the tool's ``timeout_s``.
    """

    def __init__(self, name: str, tools: Sequence[Tool[..., Any]], *, size: int = 8, process: bool = False) -> None:
        if size < 1:
            raise ValueError(f"ToolAgent({name!r}, size={size}): at least one call must be able to run")
        self.name = name
        self.tools = tuple(tools)
        self.size = size
        self.process = process

    def child_spec(self, node: Node) -> ChildSpec:
        """This agent as a supervisor's child."""
        if self.process and node.system.path is None:
            raise DefinitionError(
                f"the tool agent {self.name!r} runs in a process of its own and needs the application's import path: "
                'give it, System(..., path="module:attribute"), or start it with regrow run or regrow dev'
            )
        if self.process:
            return process_child(_process_of(self, node))
        return ChildSpec(id=f"tools.{self.name}", run=_Inline(self, node).run)

    @asynccontextmanager
    async def serve(self, bus: Bus) -> AsyncGenerator[None]:
        """Serves the tools here while the block runs; calls that run when it ends are finished, those that wait are dropped."""
        async with asyncio.TaskGroup() as tasks, AsyncExitStack() as serving:
            calls = _Calls(bus, self.size, tasks)
            for tool in self.tools:
                await serving.enter_async_context(
                    bus.serve(bus.subjects.tool(tool.name), calls.receiver(tool), queue=self.name)
                )
            serving.callback(calls.close)
            yield


class _Inline:
    """A tool agent in the node's own process."""

    def __init__(self, agent: ToolAgent, node: Node) -> None:
        self._agent = agent
        self._node = node

    async def run(self, start: Start) -> None:
        async with self._agent.serve(self._node.bus):
            start.ready()
            await asyncio.Event().wait()


def _process_of(agent: ToolAgent, node: Node) -> Process:
    """The process that serves an agent; what its tools start is gone when it is, and it when this one is."""
    return Process(
        f"tools.{agent.name}",
        (sys.executable, "-m", "regrow.agents.tool_process", str(node.system.path), agent.name),
        env={**os.environ, URL: node.url},
        stop_s=STOP_S,
        logs_stderr=False,
        ready_line=READY,
    )


class _Calls:
    """The calls that an agent has taken: ``size`` of them run, the others wait."""

    def __init__(self, bus: Bus, size: int, tasks: asyncio.TaskGroup) -> None:
        self._bus = bus
        self._room = asyncio.Semaphore(size)
        self._tasks = tasks
        self._closed = False

    def close(self) -> None:
        """From now on no call begins."""
        self._closed = True

    def receiver(self, tool: Tool[..., Any]) -> Callable[[Request], None]:
        """Takes the calls of one tool."""

        def receive(request: Request) -> None:
            self._tasks.create_task(self._call(tool, request, asyncio.get_running_loop().time() + tool.timeout_s))

        return receive

    async def _call(self, tool: Tool[..., Any], request: Request, until: float) -> None:
        async with self._room:
            # Whoever made a call that has waited too long may have made it again: it must not run behind that one.
            if self._closed or asyncio.get_running_loop().time() >= until:
                _log.info("call dropped", tool=tool.name, closed=self._closed)
                return
            await answer_call(self._bus, tool, request)
