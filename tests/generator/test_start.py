"""The command starts without what it does not use."""

import subprocess
import sys

import pytest

HEAVY = {
    "asyncio",
    "nats",
    "psycopg",
    "redis",
    "copier",
    "jinja2",
    "json",
    "pathspec",
    "plumbum",
    "pydantic",
    "rich.console",
    "uv",
    "yaml",
}
MODULES = """\
import sys
from dockyard.cli import main
sys.argv = ["dockyard", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def modules(*arguments: str) -> set[str]:
    """What `dockyard <arguments>` has imported when it ends with 0."""
    ran = subprocess.run(
        [sys.executable, "-c", MODULES, *arguments], check=True, capture_output=True, text=True
    )
    return set(ran.stderr.split())


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_first_look_imports_nothing_heavy(option: str) -> None:
    imported = modules(option)

    assert "typer" in imported
    assert HEAVY & imported == set()


@pytest.mark.parametrize("command", ["new", "update", "fleet", "platform"])
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    # Typer itself reads a command's parameters with pydantic.
    assert HEAVY & modules(command, "--help") <= {"asyncio", "json", "pydantic"}
