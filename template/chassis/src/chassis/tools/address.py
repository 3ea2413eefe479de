"""Where the servers of a running `dev` listen: a file for other commands, and for a shell.

Knows a folder and two settings; knows no server and no service.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from chassis.settings import VARIABLES, Settings

_FILE = "dev.env"
_NAMES = ("bus_url", "inbox_url")


@contextmanager
def announced(folder: Path, settings: Settings) -> Iterator[None]:
    """While the block runs, `of_running(folder)` gives the URLs of `settings`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    urls = {VARIABLES[name].name: getattr(settings, name) for name in _NAMES}
    lines = [f"{name}={shlex.quote(url)}" for name, url in urls.items() if url is not None]
    file = folder / _FILE
    file.unlink(missing_ok=True)
    own = f"# while process {os.getpid()} runs\n"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as written:
        written.write(own + "\n".join(lines) + "\n")
    try:
        yield
    finally:
        if file.exists() and file.read_text().startswith(own):
            file.unlink()


def of_running(folder: Path) -> Mapping[str, str]:
    """The settings with the URLs of a `dev` that runs now in `folder`; empty if none does."""
    try:
        first, *lines = (folder / _FILE).read_text().splitlines()
        os.kill(int(first.split()[3]), 0)
    except (OSError, ValueError, IndexError):
        return {}
    given = dict(line.split("=", 1) for line in lines)
    urls = {name: given.get(VARIABLES[name].name) for name in _NAMES}
    return {name: shlex.split(url)[0] for name, url in urls.items() if url is not None}
