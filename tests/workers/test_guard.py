import os
import subprocess
from pathlib import Path

import pytest

from regrow.workers.guard import descendants, oom_kills, proportional_bytes, resident_bytes


@pytest.mark.parametrize(
    ("line", "folder", "files"),
    [
        ("0::/shop", "shop", {"memory.events": "low 0\noom 2\noom_kill 2\noom_group_kill 1\n", "memory.max": "1000\n"}),
        (
            "4:memory:/shop",
            "memory/shop",
            {"memory.oom_control": "under_oom 0\noom_kill 2\n", "memory.limit_in_bytes": "1000\n"},
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_what_the_kernel_killed_is_read_from_the_cgroup(
    line: str, folder: str, files: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / folder / name).write_text(text)
    (tmp_path / "cgroup").write_text(f"1:cpu:/\n{line}\n")
    assert oom_kills(str(tmp_path / "cgroup"), str(tmp_path)) == (2, 1000)


def test_a_cgroup_that_cannot_be_read_or_has_no_limit_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    assert oom_kills(str(tmp_path / "cgroup"), str(tmp_path)) == (0, 0)
    assert oom_kills(str(tmp_path / "none"), str(tmp_path)) == (0, 0)


def test_a_process_that_has_ended_has_no_memory_and_no_descendants() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    pid = process.pid
    assert (resident_bytes(pid), proportional_bytes(pid), descendants(pid)) == (0, 0, [])


def test_shared_pages_count_once_in_the_proportional_size() -> None:
    assert 0 < proportional_bytes(os.getpid()) <= 2 * resident_bytes(os.getpid())
