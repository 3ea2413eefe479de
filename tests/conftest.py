"""Compiled contracts on the path of every test; how much hypothesis tries.

Its examples are the same in every run, unless somebody searches for new ones:

    make test ARGS="--hypothesis-profile=search -k fuzz"
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from tests.contracts import compile_into

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile("repeatable")

_generated = TemporaryDirectory(prefix="contracts-")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: they import the generated code."""
    config.add_cleanup(_generated.cleanup)
    compile_into(Path(_generated.name))
    sys.path.insert(0, _generated.name)
    config.add_cleanup(lambda: sys.path.remove(_generated.name))


@pytest.fixture(scope="session")
def generated_contracts() -> Path:
    """The folder of the generated code, for a process that needs it on its path."""
    return Path(_generated.name)
