"""A disk that fills up under the server: in a mount namespace of its own, so that only this test's processes see it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def test_a_full_disk_keeps_what_was_accepted_and_takes_more_after_a_restart_with_room(tmp_path: Path) -> None:
    """The server answers no publish while its disk is full, nor afterwards until it starts again: the outcome is unknown
    to whoever posts, an append goes on asking, and comes through."""
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = "mount -t tmpfs -o size=4m none disk"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, "sh", "-c", mount], cwd=tmp_path, check=False).returncode
    ):
        pytest.skip("no disk of its own may be mounted here")
    script = f"{mount} && exec {sys.executable} {Path(__file__).parent}/apps/full_disk.py {disk}"
    ended = subprocess.run([*alone, "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["undecided"]
    assert said["posts"] == ["RequestTimeout", "RequestTimeout"]
    assert said["posts_afterwards"] == ["stored", "stored"]
    assert said["found"] == said["accepted"]
    assert said["still_read"] == len(said["accepted"]) - 1
