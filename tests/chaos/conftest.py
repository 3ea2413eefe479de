"""The service that chaos happens to."""

from pathlib import Path

import pytest

from tests.chaos.handlers import EXTRAS, HANDLERS
from tests.e2e.rendering import render_service
from tests.once import made_once


@pytest.fixture(scope="session")
def chaos_service(template: Path, run_folder: Path) -> Path:
    """Never written to by a test."""

    def make(folder: Path) -> None:
        render_service(template, folder, HANDLERS, extras=EXTRAS)

    return made_once(run_folder / "chaos", make) / "billing-svc"
