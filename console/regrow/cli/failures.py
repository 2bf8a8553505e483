"""How a command ends: its own exit code, or one clear sentence about what went wrong and what to do."""

import argparse
import asyncio
import errno
import os
import sys
from collections.abc import Callable
from typing import cast

from regrow.actors import ActorError
from regrow.actors.logs import log_to_stderr
from regrow.agents.product import CatalogueError
from regrow.bus import BusError, PortInUse
from regrow.cli.say import INTERRUPTED, say
from regrow.models import ModelError
from regrow.supervisor import SupervisorError

FAILED = 1


class CommandFailed(Exception):
    """A command cannot go on; its text is the sentence for the person who typed it."""


_EXPECTED = (CommandFailed, BusError, ActorError, CatalogueError, ModelError, SupervisorError)
"""Failures whose text is made for people; anything else is a defect of ours and shows its traceback."""


def told(run: Callable[[argparse.Namespace], int], chosen: argparse.Namespace) -> int:
    """Runs a command; failures that can be expected become one sentence on standard error and exit code 1."""
    log_to_stderr()
    try:
        code = run(chosen)
        print(end="", flush=True)
        return code
    except (KeyboardInterrupt, asyncio.CancelledError):
        over_the_caret = "\r" if sys.stderr.isatty() else ""  # a terminal has shown ^C
        say(f"{over_the_caret}regrow: stopped; nothing is lost, the same command goes on where it was")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        _drop_output()
        return FAILED
    except Exception as error:
        sentence = sentence_for(error)
        if sentence is None:
            raise
        _drop_output()
        say(f"regrow: {sentence}")
        return FAILED


def sentence_for(error: BaseException) -> str | None:
    """The sentence for a failure that can be expected, the innermost cause first; None for a defect."""
    if isinstance(error, BaseExceptionGroup):
        group = cast(BaseExceptionGroup[BaseException], error)
        return next((said for inner in group.exceptions if (said := sentence_for(inner)) is not None), None)
    if isinstance(error, SupervisorError) and error.__cause__ is not None:
        inner = sentence_for(error.__cause__)
        return inner if inner is not None else str(error)
    if isinstance(error, PortInUse):
        return f"port {error.port} is in use: choose another one with --port, or --port 0 for any that is free"
    if isinstance(error, _EXPECTED):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            f"the disk is full ({error.filename or 'while writing'}): free some space, then type the same command again"
        )
    if isinstance(error, PermissionError):
        return f"no permission for {error.filename}: choose another --store, or make it writable for this user"
    if isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError | FileNotFoundError):
        return f"{error.strerror}: {error.filename}; choose another --store or file"
    return None


def _drop_output() -> None:
    """Output that cannot be written is not tried again, with a traceback, when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
