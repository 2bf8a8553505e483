"""Where log lines go: to standard error, as one line each, so that standard output is left to data."""

import logging
import os
import sys

import structlog

LEVEL = "REGROW_LOG"
"""The environment variable that names the lowest level shown: debug, info, warning, error."""


def log_to_stderr(level: str = "warning") -> None:
    """Configures structlog for a process that is regrow's own; libraries leave it as they find it."""
    chosen = os.environ.get(LEVEL, level).upper()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(chosen, logging.WARNING)
        ),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S"),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
