"""Python children: what the tests have run in interpreters of their own."""

import asyncio
import os
import signal
import socket
import sys

from regrow.workers import Begun, cause_to_json


def tell(text: str) -> socket.socket:
    """Say it to the test; the connection ends with this process."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ["WITNESS"])
    connection.sendall(text.encode() + b"\n")
    return connection


def dies_once(begun: Begun) -> None:
    """Dies in the way that `DEATH` says; started again it tells of what."""
    begun.ready()
    if begun.cause is not None:
        connection = tell(f"{begun.restarts} {cause_to_json(begun.cause)}")
        signal.pause()
        connection.close()
    match os.environ["DEATH"]:
        case "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            held = b"x" * (200 << 20)
            signal.pause()
            del held
        case "exception":
            raise ValueError("no such route")
        case "code":
            sys.exit(3)
        case _:
            signal.pause()


async def serves(begun: Begun) -> None:
    """Serves until it is asked to go, which takes it a moment."""
    connection = tell("serving")
    begun.ready()
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        tell("put away").close()
        connection.close()


async def wants_too_much(begun: Begun) -> None:
    """Asks for more addresses than it may have."""
    begun.ready()
    bytearray(1 << 40)
