"""Compiled contracts on the path, and the log lines a test caused."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import structlog

from chassis.telemetry import logs
from tests.contracts import compile_into

_generated = TemporaryDirectory(prefix="contracts-")

_UNCACHED = {"cache_logger_on_first_use": False}

LogLines = Callable[[], list[dict[str, Any]]]


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: they import the generated code."""
    config.add_cleanup(_generated.cleanup)
    compile_into(Path(_generated.name))
    sys.path.insert(0, _generated.name)
    config.add_cleanup(lambda: sys.path.remove(_generated.name))


@pytest.fixture(autouse=True)
def fresh_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loggers follow each configuration: a cached one would stay with that of an earlier test."""
    configure = structlog.configure
    monkeypatch.setattr(structlog, "configure", lambda **settings: configure(**settings | _UNCACHED))


@pytest.fixture
def generated_contracts() -> Path:
    """The folder of the generated code, for a process that needs it on its path."""
    return Path(_generated.name)


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """JSON logging as in production; gives the lines since the last call."""
    written = StringIO()
    root = logging.getLogger()
    of_pytest, level = root.handlers, root.level
    with redirect_stderr(written):
        logs.configure("json", "debug", "billing-svc")
    (handler,) = root.handlers
    root.handlers = of_pytest
    root.addHandler(handler)

    def since_last() -> list[dict[str, Any]]:
        lines = written.getvalue().splitlines()
        written.seek(0)
        written.truncate()
        return [json.loads(line) for line in lines]

    yield since_last
    root.removeHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()
