"""What the person who watches is told: lines on standard error, for standard output is for data, and the code of the end."""

import sys

INTERRUPTED = 130
"""The exit code of a command that was interrupted, as shells have it: 128 and the signal's number."""


def say(text: str) -> None:
    """Prints a line."""
    print(text, file=sys.stderr, flush=True)
