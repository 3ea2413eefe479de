"""The service that chaos happens to."""

from pathlib import Path

import pytest

from tests.chaos.handlers import EXTRAS, HANDLERS
from tests.e2e.rendering import render_service


@pytest.fixture(scope="session")
def chaos_service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_service(tmp_path_factory.mktemp("chaos"), HANDLERS, extras=EXTRAS)
