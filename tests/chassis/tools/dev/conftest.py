"""A folder for servers, and the process that keeps one."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from tests.brokers.process import running


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's folders: their parents are closed to the account of PostgreSQL."""
    with TemporaryDirectory(prefix="dev-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def keeper(folder: Path) -> psutil.Process:
    (found,) = (process for process in running(folder) if "keeper.py" in str(process.cmdline()))
    return found
