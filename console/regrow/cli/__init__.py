"""The ``regrow`` command. Importing it is cheap: each command imports what it needs when it runs."""

from regrow.cli.parser import main

__all__ = ["main"]
