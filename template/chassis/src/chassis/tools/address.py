"""Where the NATS of a running `dev` listens: a file that other commands in the same folder read.

Knows a folder; knows no server and no service.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FILE = "dev.url"


@contextmanager
def announced(data: Path, url: str) -> Iterator[None]:
    """While the block runs, `of_running(data)` gives `url`."""
    file = data / _FILE
    file.write_text(f"{os.getpid()} {url}\n")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def of_running(data: Path) -> str | None:
    """The URL of the NATS of a `dev` that runs now with `data`, if there is one."""
    try:
        pid, url = (data / _FILE).read_text().split()
        os.kill(int(pid), 0)
    except (OSError, ValueError):
        return None
    return url
