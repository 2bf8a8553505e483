"""How a command ends: its own exit code, or one clear sentence about what went wrong and what to do."""

import argparse
import asyncio
import errno
import sys
from collections.abc import Callable
from typing import cast

from regrow.actors import ActorError
from regrow.actors.logs import log_to_stderr
from regrow.agents.product import CatalogueError
from regrow.bus import BusError
from regrow.cli.parser import say
from regrow.models import ModelError
from regrow.supervisor import SupervisorError

FAILED = 1
INTERRUPTED = 130


class CommandFailed(Exception):
    """A command cannot go on; its text is the sentence for the person who typed it."""


_EXPECTED = (CommandFailed, BusError, ActorError, CatalogueError, ModelError, SupervisorError)
"""Failures whose text is made for people; anything else is a defect of ours and shows its traceback."""


def told(run: Callable[[argparse.Namespace], int], chosen: argparse.Namespace) -> int:
    """Runs a command; failures that can be expected become one sentence on standard error and exit code 1."""
    log_to_stderr()
    try:
        return run(chosen)
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("\nregrow: stopped; nothing is lost, the same command goes on where it was")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except Exception as error:
        sentence = sentence_for(error)
        if sentence is None:
            raise
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
