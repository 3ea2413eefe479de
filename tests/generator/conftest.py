"""Throw-away templates and a command line bound to a home of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from uv import find_uv_bin

from dockyard.cli import main

COPIER_YML = """\
_subdirectory: template
_envops: {undefined: jinja2.StrictUndefined}

service_name: {type: str, default: example-svc}
owner:
  type: str
  default: platform
  validator: "{% if owner != owner | lower %}must be lower case{% endif %}"
bus:
  type: str
  default: rabbitmq
  choices: [rabbitmq, nats]
package:
  type: str
  when: false
  default: "{{ service_name | replace('-', '_') }}"
"""
FILES = {
    "copier.yml": COPIER_YML,
    "template/{{_copier_conf.answers_file}}.jinja": "{{ _copier_answers | to_nice_yaml -}}\n",
    "template/pyproject.toml.jinja": '[project]\nname = "{{ package }}"\nversion = "0"\nrequires-python = ">=3.11"\n',
    "template/release.txt": "one\n",
    "template/.gitignore": "*.log\n",
}


def git(folder: Path, *arguments: str) -> str:
    """Standard output of a git command that must succeed."""
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


def listing(folder: Path) -> list[str]:
    """Every path below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@dataclass(frozen=True, slots=True)
class Repository:
    """A template's git repository."""

    path: Path

    def commit(self, files: Mapping[str, str], tag: str | None = None) -> str:
        """Commit `files`, tag the commit, and return its id."""
        for name, text in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", "--message=a change")
        if tag:
            git(self.path, "tag", tag)
        return git(self.path, "rev-parse", "HEAD").strip()


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str


Dockyard = Callable[..., Ran]


@pytest.fixture(scope="session")
def uv_cache() -> str:
    """The machine's own cache of packages: a home of a test's own would download them all again."""
    return subprocess.run([find_uv_bin(), "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv_cache: str) -> Path:
    """A home, a git identity and temporary folders that are this test's alone."""
    folder = tmp_path / "home"
    scratch = tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    for name in [name for name in os.environ if name.startswith(("GIT_", "DOCKYARD_", "COPIER_", "XDG_"))]:
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
    return folder


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
