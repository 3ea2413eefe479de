"""Folders for the work of one command, removed with it. Knows the disk alone."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

_ABANDONED = 24 * 60 * 60
"""Seconds: no command works that long."""


@contextmanager
def scratch(prefix: str, beside: Path | None = None) -> Iterator[Path]:
    """A folder with a name that begins with `prefix`, in the folder `beside`, else where temporary ones are.

    Those of commands that were killed, a day ago or longer, are removed too. Raises OSError when there is no room.
    """
    parent = beside or Path(tempfile.gettempdir())
    for left in parent.glob(f"{prefix}*"):
        if _is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def _is_abandoned(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and time() - found.st_mtime > _ABANDONED
