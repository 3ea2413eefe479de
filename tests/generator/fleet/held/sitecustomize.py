"""Holds a process of an update at a chosen moment amid the writing of a service.

Python imports it at its start in each process whose PYTHONPATH has this folder. A moment is a file
that is opened for writing, moved or removed, or a program that is started, while a service is half
written. Every moment of the run adds a byte to the file `moments` in the folder HELD_IN. From the
moment HELD_AT on, processes stand still until the folder has a file `release`; `held` says so.
HELD_OBJECTS: how many files the object database of each service has before an update that makes a
branch; null for an update in place, which has a journal while it writes.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OBJECTS = {Path(root): count for root, count in json.loads(os.environ["HELD_OBJECTS"]).items()}
_AT = int(os.environ["HELD_AT"])
_HERE = Path(os.environ["HELD_IN"])
_within = threading.local()


def is_amid(root: Path, objects: int | None) -> bool:
    """Whether an update has begun to write the service at `root` and has not ended."""
    if objects is None:
        return (root / ".git/dockyard").exists()
    written = sum(len(files) for _, _, files in os.walk(root / ".git/objects"))
    return written > objects and not list((root / ".git/refs/heads").glob("dockyard/*"))


def _on(event: str, arguments: tuple[object, ...]) -> None:
    if getattr(_within, "hook", False) or not _writes(event, arguments):
        return
    _within.hook = True
    try:
        if any(is_amid(root, objects) for root, objects in _OBJECTS.items()):
            _count()
    finally:
        _within.hook = False


def _writes(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & _WRITES)
    return event in {"os.rename", "os.remove", "subprocess.Popen"}


def _count() -> None:
    with (_HERE / "moments").open("ab") as moments:
        moments.write(b".")
        moments.flush()
        number = moments.tell()
    if _AT and number >= _AT:
        (_HERE / "held").touch()
        while not (_HERE / "release").exists():
            time.sleep(0.01)


sys.addaudithook(_on)
