"""Fixtures: the working tree's template as a repository, and a rendered service's environment."""

import os
import shutil
import sys
from collections.abc import Mapping
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
from pytest_copie.plugin import Copie
from uv import find_uv_bin

from tests.once import made_once
from tests.template import lab


@pytest.fixture
def service(rendered: Path, tmp_path: Path) -> Path:
    """A copy of `rendered` for one test to change."""
    return Path(shutil.copytree(rendered, tmp_path / "billing-svc", symlinks=True))


@pytest.fixture(scope="session")
def template_without_chassis(template: Path, run_folder: Path) -> Path:
    """`template` without the files that are the same in every service."""

    def make(folder: Path) -> None:
        shutil.copytree(template, folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "template/chassis")
        lab.commit_all(folder, "without the chassis")

    return made_once(run_folder / "template-without-chassis", make)


@pytest.fixture
def render(
    copie: Copie,
    template: Path,
    template_without_chassis: Path,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> lab.Render:
    """pytest-copie on `template`. Tests with the same answers get copies of one render.

    Copier takes more time for the chassis than for all else, and changes nothing in it.
    """
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / ".copier-cache"))
    numbers = count()

    def copy(**answers: str) -> Path:
        given = {"service_name": "billing-svc", **answers}

        def make(folder: Path) -> None:
            result = copie.copy(extra_answers=given, template_dir=template_without_chassis)
            if result.exception is not None:
                raise result.exception
            assert result.project_dir is not None
            shutil.copytree(result.project_dir, folder, symlinks=True, dirs_exist_ok=True)
            shutil.copytree(template / "template/chassis", folder / "chassis", symlinks=True)

        name = sha256(repr(sorted(given.items())).encode()).hexdigest()[:12]
        kept = made_once(run_folder / f"render-{name}", make)
        target = tmp_path / f"render-{next(numbers)}"
        return Path(shutil.copytree(kept, target, symlinks=True))

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
