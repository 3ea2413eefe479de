"""A newcomer's checkout, service and uv may lie in folders with spaces in their names."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.template import lab
from tests.test_repository import ROOT, files

FOREIGN = ("CHASSIS_", "COPIER_", "MAKE", "MFLAGS", "PYTEST_", "PYTHONPATH", "UV_", "VIRTUAL_ENV")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A newcomer's environment. The cache of uv is shared, so that nothing is downloaded again."""
    programs = tmp_path_factory.mktemp("programs") / "my programs"
    programs.mkdir()
    (programs / "uv").symlink_to(find_uv_bin())
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    cache = {name: os.environ[name] for name in ("UV_CACHE_DIR",) if name in os.environ}
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    return {**inherited, **cache, "PATH": path, "UV_PYTHON": sys.executable}


@pytest.fixture(scope="module")
def checkout(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the working tree in a repository of their own, set up."""
    folder = tmp_path_factory.mktemp("newcomer") / "a folder with spaces" / "dockyard"
    for path in files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    lab.commit_all(folder, "the working tree")
    lab.run(["make", "setup", f"PYTHON={sys.executable}"], folder, environment)
    return folder


def test_the_repository_checks_and_tests_itself(
    checkout: Path, environment: Mapping[str, str]
) -> None:
    known = {"MYPY_CACHE_DIR": str(ROOT / ".mypy_cache")}  # of the same files, by their names
    lab.run(["make", "check"], checkout, {**environment, **known})
    tested = lab.run(["make", "test", "ARGS=tests/docs/test_links.py"], checkout, environment)
    assert " passed" in tested


def test_a_new_service_checks_and_tests_itself(
    checkout: Path, environment: Mapping[str, str]
) -> None:
    dockyard = str(checkout / ".venv/bin/dockyard")
    lab.run([dockyard, "new", "billing-svc", "--into", "..", "--defaults"], checkout, environment)
    service = checkout.parent / "billing-svc"
    lab.run(["make", "check"], service, environment)
    assert " passed" in lab.run(["make", "test"], service, environment)
