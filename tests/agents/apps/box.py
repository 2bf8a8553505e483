"""An application whose tools run in a process of their own and do what processes do: tell their pid, die, hang."""

import os
import signal
import time
from pathlib import Path

from regrow.actors import Actor, Message, Retry, System, command, tool
from regrow.agents import ToolAgent

AGAIN = Retry(attempts=3)


class Where(Message[int]):
    """In which process do the tools run?"""


class Die(Message[int]):
    """Have the tool's process killed in the middle of the first call; the flag says that it has happened."""

    flag: str


class Hang(Message[None]):
    """Have the tool's process blocked for good; it tells its pid by the pipe first."""

    pipe: str


class Much(Message[str]):
    """Have the tool return more than fits a message."""

    size: int


@tool
async def where() -> int:
    print("more than a pipe holds that nobody reads", "." * 100_000)  # noqa: T201 # as tools do
    return os.getpid()


@tool(retry=AGAIN, timeout_s=1.0)
def die_once(flag: str) -> int:
    try:
        Path(flag).touch(exist_ok=False)
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@tool
async def hang(pipe: str) -> None:
    Path(pipe).write_text(str(os.getpid()))  # noqa: ASYNC240 # it is to block
    time.sleep(600)  # noqa: ASYNC251 # it is to block


@tool(timeout_s=10.0)
async def much(size: int) -> str:
    return "x" * size


class Caller(Actor):
    @command
    async def where(self, message: Where) -> int:
        return await where()

    @command
    async def die(self, message: Die) -> int:
        return await die_once(message.flag)

    @command
    async def hang(self, message: Hang) -> None:
        await hang(message.pipe)

    @command
    async def much(self, message: Much) -> str:
        return await much(message.size)


app = System(
    "box",
    actors=[Caller],
    children=[ToolAgent("outside", tools=[where, die_once, hang, much], process=True)],
    path="box:app",
)
