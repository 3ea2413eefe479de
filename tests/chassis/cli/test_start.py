"""What a command imports before it works: nothing heavy that it does not need."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from chassis.cli import MISTAKES
from tests.chassis.cli.conftest import HANDLED, settings

HEAVY = {
    "aiohttp",
    "aiormq",
    "asyncio",
    "chassis.service",
    "handlers",
    "nats",
    "prometheus_client",
    "psycopg",
    "pydantic",
    "redis",
    "rich.console",
    "structlog",
    "uvloop",
}
OF_A_CONNECTION = {"asyncio", "rich.console", "structlog", "uvloop"}
"""What each command needs that speaks to a broker: its log lines, and the event loop."""

HANDLERS = """
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from chassis import Service
service = Service("billing-svc", version="1.2.3")
@service.on(UserSignedUp)
async def open_account(event, ctx): ...
"""
PROGRAM = """
import json, sys
from chassis.cli import main
try:
    main("handlers:service", "billing-svc")
finally:
    sys.stderr.write("\\n" + json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def imported(tmp_path: Path, generated_contracts: Path) -> "Imported":
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return Imported(tmp_path, generated_contracts)


class Imported:
    """Runs a command line of billing-svc, and gives the modules that were imported by its end."""

    def __init__(self, folder: Path, contracts: Path) -> None:
        self._folder = folder
        self._contracts = contracts

    def by(self, *arguments: str, code: int = 0, **variables: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=settings(PYTHONPATH=f"{self._folder}:{self._contracts}", **variables),
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["config"], ["dlq", "--help"], ["dlq", "list", "--help"], ["publish", "--help"]],
)
def test_a_command_that_needs_no_broker_imports_nothing_heavy(
    imported: Imported, arguments: list[str]
) -> None:
    assert not HEAVY & imported.by(*arguments)


@pytest.mark.parametrize("arguments", [["dlq", "list"], ["publish", HANDLED]])
def test_a_command_imports_nothing_heavy_before_it_knows_its_broker(
    imported: Imported, arguments: list[str]
) -> None:
    assert not HEAVY & imported.by(*arguments, code=2)


@pytest.mark.parametrize("arguments", [["dlq", "list"], ["publish", HANDLED]])
def test_dead_letters_and_publishing_need_no_handler(
    imported: Imported, arguments: list[str]
) -> None:
    found = imported.by(*arguments, CHASSIS_BUS_URL="memory://")
    assert not (HEAVY - OF_A_CONNECTION) & found
    assert "chassis.bus.memory" in found


def test_a_type_by_its_last_part_is_found_by_way_of_the_handlers(imported: Imported) -> None:
    found = imported.by("publish", "AccountOpened", CHASSIS_BUS_URL="memory://")
    assert "handlers" in found


def test_every_mistake_of_a_user_is_where_the_command_line_looks_for_it() -> None:
    for module, names in MISTAKES.items():
        for name in names:
            assert issubclass(getattr(import_module(module), name), Exception)
