"""The rules of a service rendered from the working tree."""

from pathlib import Path

import pytest

from tests.monitoring.rules import Rules, read


@pytest.fixture(scope="session")
def rules(rendered: Path) -> Rules:
    return read(rendered / "deploy/chart/files/rules.yaml")
