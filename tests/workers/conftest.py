"""Real processes that tell the test about themselves, through a socket that ends when they do."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest_asyncio


class Witness:
    """What processes said of themselves, and when each was gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: asyncio.Queue[tuple[str, asyncio.Event]] = asyncio.Queue()

    async def wait_said(self) -> tuple[str, asyncio.Event]:
        """What the next process says, and the event of its death."""
        return await self.said.get()

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = asyncio.Event()
        self.said.put_nowait(((await reader.readline()).decode().strip(), gone))
        with suppress(ConnectionResetError):
            await reader.read()
        gone.set()
        writer.close()


@pytest_asyncio.fixture
async def witness(tmp_path: Path) -> AsyncGenerator[Witness]:
    witness = Witness(tmp_path / "witness")
    server = await asyncio.start_unix_server(witness.hear, witness.path)
    yield witness
    server.close()
    await server.wait_closed()
