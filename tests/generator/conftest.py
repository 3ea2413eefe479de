"""Throw-away templates and services, and a command line bound to a home of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from uv import find_uv_bin

from dockyard.cli import main
from tests.generator import services
from tests.generator.lab import FILES, Dockyard, Ran, Repository, git
from tests.generator.services import Made


@pytest.fixture(scope="session")
def uv_cache() -> str:
    """The machine's own cache of packages: a home of a test's own would download them all again."""
    return subprocess.run(
        [find_uv_bin(), "cache", "dir"], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv_cache: str) -> Iterator[Path]:
    """A home, a git identity and temporary folders that are this test's alone."""
    folder = tmp_path / "home"
    # The path of a socket has at most 107 bytes, and the ones of pytest are long.
    scratch = Path(mkdtemp(prefix="scratch-"))
    (tmp_path / "scratch").symlink_to(scratch)
    folder.mkdir()
    for name in [
        name
        for name in os.environ
        if name.startswith(("GIT", "GH_", "DOCKYARD_", "COPIER_", "XDG_"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("UV_CACHE_DIR", uv_cache)
    monkeypatch.setenv("UV_PYTHON", sys.executable)
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    (folder / ".gitconfig").write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = trunk\n"
    )
    yield folder
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Repository:
    """A template with one commit and no tag."""
    path = tmp_path / "template"
    path.mkdir()
    git(path, "init", "--quiet")
    made = Repository(path)
    made.commit(FILES)
    return made


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """The folder that services go into."""
    folder = tmp_path / "services"
    folder.mkdir()
    return folder


@pytest.fixture
def dockyard(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Dockyard:
    """Run the console entry in this process."""

    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["dockyard", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            main()
        captured = capsys.readouterr()
        code = ending.value.code
        assert isinstance(code, int)
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def evolving(tmp_path: Path, home: Path) -> Repository:
    """The template of `services`, released as v1.0.0."""
    path = tmp_path / "evolving"
    path.mkdir()
    git(path, "init", "--quiet")
    made = Repository(path)
    services.release(made, services.FILES, "v1.0.0")
    return made


@pytest.fixture
def service(evolving: Repository, into: Path) -> Made:
    """A service of v1.0.0."""
    return services.lay_down_service(evolving, into / "billing-svc", "v1.0.0")


@pytest.fixture
def refused(dockyard: Dockyard, service: Made) -> Dockyard:
    """Run a command on `service` that must be refused with a sentence and change nothing."""

    def run(*arguments: str | Path) -> Ran:
        before = service.state()
        ran = dockyard(*arguments)
        assert ran.code == 2, ran.out + ran.err
        assert ran.err.splitlines()[-1].startswith("dockyard: ")
        assert "Traceback" not in ran.err
        assert service.state() == before
        return ran

    return run
