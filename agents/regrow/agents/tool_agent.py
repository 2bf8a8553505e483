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

_log = structlog.get_logger(__name__)

URL = "REGROW_TOOL_AGENT_URL"
"""The environment variable by which the process of a tool agent is told where the bus is."""
CREDS = "REGROW_TOOL_AGENT_CREDS"
"""The same for a credentials file, where the bus asks for one."""
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
            env={**os.environ, URL: self._node.url},
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
