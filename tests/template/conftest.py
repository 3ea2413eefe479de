"""Fixtures: the working tree's template as a repository, and a rendered service's environment."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pytest_copie.plugin import Copie
from uv import find_uv_bin

from tests.template import lab


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree's template, as a repository with one commit. No test writes to it."""
    folder = tmp_path_factory.mktemp("template")
    lab.lay_down_template(folder)
    lab.commit_all(folder, "the template of the working tree")
    return folder


@pytest.fixture(scope="session")
def rendered(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed service with default answers. Never written to by a test."""
    return lab.copy(
        template, tmp_path_factory.mktemp("rendered") / "billing-svc", service_name="billing-svc"
    )


@pytest.fixture
def service(rendered: Path, tmp_path: Path) -> Path:
    """A copy of `rendered` for one test to change."""
    return Path(shutil.copytree(rendered, tmp_path / "billing-svc", symlinks=True))


@pytest.fixture
def render(
    copie: Copie, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> lab.Render:
    """pytest-copie at work on `template`."""
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / ".copier-cache"))

    def copy(**answers: str) -> Path:
        result = copie.copy(
            extra_answers={"service_name": "billing-svc", **answers}, template_dir=template
        )
        if result.exception is not None:
            raise result.exception
        assert result.project_dir is not None
        return result.project_dir

    return copy


@pytest.fixture(scope="session")
def make_environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Environment for `make` in a rendered service: uv and this Python, nothing of this project."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CHASSIS_", "PYTEST_", "MAKE"))
        and name not in {"VIRTUAL_ENV", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT"}
    }
    uv_only = tmp_path_factory.mktemp("bin")
    (uv_only / "uv").symlink_to(find_uv_bin())
    return {
        **inherited,
        "PATH": os.pathsep.join([str(uv_only), inherited["PATH"]]),
        "MYPY_CACHE_DIR": str(tmp_path_factory.mktemp("mypy-cache")),
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
    }
