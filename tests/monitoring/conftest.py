"""A service rendered from the working tree, and its rules."""

from pathlib import Path

import pytest

from tests.monitoring.rules import Rules, read
from tests.template import lab


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service with default answers. Never written to by a test."""
    template = tmp_path_factory.mktemp("template")
    lab.lay_down_template(template)
    lab.commit_all(template, "the template of the working tree")
    return lab.copy(
        template, tmp_path_factory.mktemp("rendered") / "billing-svc", service_name="billing-svc"
    )


@pytest.fixture(scope="session")
def rules(rendered: Path) -> Rules:
    return read(rendered / "deploy/chart/files/rules.yaml")
