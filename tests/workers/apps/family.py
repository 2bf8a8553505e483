"""A program with descendants of every sort: `python -I -S family.py WITNESS [scrubbed]`. Each says its name and stays."""

import os
import signal
import socket
import sys
from pathlib import Path

STAY = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(f"{sys.argv[2]} {os.getpid()}".encode() + b"\\n")
while True:
    signal.pause()
"""


def stay(name: str, env: dict[str, str]) -> None:
    """Become a process that ignores SIGTERM and has nothing of its parent but its kinship."""
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", STAY, sys.argv[1], name], env)


def main() -> None:
    """Beget a child, one in a session of its own, one that was forked twice, and one more with an empty environment."""
    env = dict(os.environ)
    if os.fork() == 0:
        stay("child", env)
    if os.fork() == 0:
        os.setsid()
        stay("session", env)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            stay("daemon", env)
        os._exit(0)
    if "scrubbed" in sys.argv and os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            stay("scrubbed", {})
        os._exit(0)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    outer = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1]
    connection.sendall(f"program {os.getpid()} {os.getppid()} {outer}\n".encode())
    signal.pause()


main()
