"""The directory of an embedded server: one owner at a time, and known to be new or in use."""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Generator
from pathlib import Path

import anyio

from regrow.bus.errors import DiskFull, StoreBusy, StoreNotWritable

LOCK_TIMEOUT_S = 5.0  # a predecessor that is being stopped gives the lock up within this time
POLL_S = 0.005
MANIFEST = "manifest.json"


async def acquire(store: Path) -> int:
    """The descriptor of the store's lock, held; makes the directory. Waits 5 s, then raises `StoreBusy`.

    The server inherits it: the lock is held until owner and server are gone.
    """
    with contextlib.ExitStack() as stack:
        lock = open_lock(store)
        stack.callback(os.close, lock)
        for _ in range(int(LOCK_TIMEOUT_S / POLL_S)):
            if try_lock(lock):
                stack.pop_all()
                return lock
            await anyio.sleep(POLL_S)
        raise StoreBusy(store, living_holder(lock))


def open_lock(store: Path) -> int:
    """The descriptor of the store's lock file, not yet held."""
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
        return os.open(store / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int) -> bool:
    """Whether the lock is held now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_holders(lock: int, *pids: int) -> None:
    """Leave a note in the lock file for whoever finds it held."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, " ".join(map(str, pids)).encode(), 0)


def living_holder(lock: int) -> int | None:
    """The first process of the lock file's note that is alive: the owner, else its server."""
    for pid in map(int, os.pread(lock, 64, 0).split()):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        except PermissionError:
            pass  # alive, and somebody else's
        return pid
    return None


def is_settled(store: Path) -> bool:
    """Whether what belongs in the store has been made, as `settle` noted."""
    return (store / MANIFEST).exists()


def settle(store: Path) -> None:
    """Note it, so that the note survives a power cut."""
    if is_settled(store):
        return
    draft = store / f"{MANIFEST}.draft"
    with writing(store):
        with draft.open("w") as file:
            file.write(json.dumps({"v": 1}))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(store / MANIFEST)
        sync_directory(store)


@contextlib.contextmanager
def writing(store: Path) -> Generator[None]:
    """Name what went wrong while the store was written: `DiskFull` or `StoreNotWritable`."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(store) from exc
        raise StoreNotWritable(store) from exc


def sync_directory(path: Path) -> None:
    """Make a rename in the directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
