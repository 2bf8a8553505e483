"""Tool agents: tools served as a supervised child on a NATS queue, in this process or in one of their own."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog

from regrow.actors import DefinitionError, Node, Tool
from regrow.actors.remote import answer_call
from regrow.bus import Bus, Request
from regrow.supervisor import ChildSpec, Start

_log = structlog.get_logger(__name__)

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
        return ChildSpec(
            id=f"tools.{self.name}", run=_Process(self, node).run if self.process else _Inline(self, node).run
        )

    @asynccontextmanager
    async def serve(self, bus: Bus) -> AsyncGenerator[None]:
        """Serves the tools here while the block runs; calls that are running when it ends are finished first."""
        limit = asyncio.Semaphore(self.size)
        async with asyncio.TaskGroup() as calls, AsyncExitStack() as serving:
            for tool in self.tools:
                await serving.enter_async_context(
                    bus.serve(bus.subjects.tool(tool.name), _receiver(bus, tool, limit, calls), queue=self.name)
                )
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


class _Process:
    """A tool agent in a process of its own, which ends when this one does: it reads an end of file where it waits."""

    def __init__(self, agent: ToolAgent, node: Node) -> None:
        self._agent = agent
        self._node = node

    async def run(self, start: Start) -> None:
        command = [sys.executable, "-m", "regrow.agents.tool_process", str(self._node.system.path), self._agent.name]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "REGROW_TOOL_AGENT_URL": self._node.url},
        )
        try:
            assert process.stdout is not None
            if await process.stdout.readline() == b"ready\n":
                start.ready()
            code = await process.wait()
            raise ToolProcessExited(self._agent.name, code)
        finally:
            await _stop(process)


class ToolProcessExited(Exception):
    """The process of a tool agent ended by itself; a negative code is the signal that killed it."""

    def __init__(self, agent: str, code: int) -> None:
        super().__init__(f"the process of the tool agent {agent!r} ended with code {code}")
        self.agent = agent
        self.code = code


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Asks by closing the pipe, waits, kills."""
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is not None:
        return
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        _log.warning("tool agent's process does not stop, killing it", pid=process.pid)
        process.kill()
        await process.wait()


def _receiver(bus: Bus, tool: Tool[..., Any], limit: asyncio.Semaphore, calls: asyncio.TaskGroup) -> Any:
    async def call(request: Request) -> None:
        async with limit:
            await answer_call(bus, tool, request)

    def receive(request: Request) -> None:
        calls.create_task(call(request))

    return receive
