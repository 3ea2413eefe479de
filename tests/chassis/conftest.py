"""The log lines that a test caused, and the PostgreSQL that the tests share."""

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import pytest
import structlog

from chassis.telemetry import logs
from tests.brokers.postgres import postgres_server
from tests.brokers.process import Server
from tests.chassis.postgres_lab import Database, database

_UNCACHED = {"cache_logger_on_first_use": False}

LogLines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def fresh_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loggers follow each configuration: a cached logger would keep an earlier test's."""
    configure = structlog.configure
    monkeypatch.setattr(
        structlog, "configure", lambda **settings: configure(**settings | _UNCACHED)
    )


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


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Server]]:
    """Its URL, and the server: a test that stops it starts it again."""
    with postgres_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
async def db(postgres: tuple[str, Server]) -> AsyncIterator[Database]:
    """A schema of the test's own."""
    url, _ = postgres
    async with database(url) as made:
        yield made
