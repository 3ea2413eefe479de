"""The folder of Dockyard's cache, and the locks in it. Knows the disk, not what is kept there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dockyard.errors import DockyardError, one_line

SETTING = "DOCKYARD_CACHE_DIR"


class CannotCache(DockyardError):
    """The operating system refuses to write to the cache."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"cannot write to Dockyard's cache {folder}: "
            f"{one_line(error.strerror or str(error))}. "
            f"Mend that, or name another folder in {SETTING}."
        )


class BrokenCache(DockyardError):
    """The cache holds something else than Dockyard put there. The command used nothing of it."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"Dockyard's cache {folder} is damaged: {one_line(reason)}. "
            "Delete that folder and run this again: Dockyard makes it anew."
        )


def cache_folder(name: str) -> Path:
    """The folder `name` of the cache, made if it is missing. Raises CannotCache.

    The cache is in `DOCKYARD_CACHE_DIR`, by default in the user's own cache folder.
    """
    own = os.environ.get(SETTING)
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(own or Path(shared) / "dockyard").absolute() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCache(folder, error) from error
    return folder


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock `file` against other processes; waits until it is free. Raises CannotCache.

    Git does not wait: of two fetches that write the same refs, one fails.
    """
    try:
        lock = file.open("w")
    except OSError as error:
        raise CannotCache(file.parent, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
