"""Folders that live as long as one command, and files that appear whole. Knows the disk alone."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time
from uuid import uuid4

_ABANDONED = 24 * 60 * 60
"""Seconds. No command works that long."""


@contextmanager
def scratch_folder(prefix: str, beside: Path | None = None) -> Iterator[Path]:
    """A new folder in `beside` (default: the system's temporary folder), removed at the end.

    Its name begins with `prefix`. Folders that killed commands left a day ago or earlier are
    removed too. Raises OSError if the disk is full.
    """
    parent = beside or Path(tempfile.gettempdir())
    for left in parent.glob(f"{prefix}*"):
        if _is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def write_whole(file: Path, content: bytes, *, is_durable: bool = True) -> None:
    """Write `content` to `file`: readers see the old file or the whole new one. Raises OSError.

    With `is_durable` it is on the disk before it takes the name: a power cut leaves no empty file.
    """
    draft = file.with_name(f".draft-{uuid4().hex}")
    try:
        with draft.open("xb") as out:
            out.write(content)
            if is_durable:
                out.flush()
                os.fsync(out.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _is_abandoned(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and time() - found.st_mtime > _ABANDONED
