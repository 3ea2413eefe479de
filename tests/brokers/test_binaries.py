"""Server programs are found where they are, installed where that is possible, and else asked for in one sentence."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import binaries
from tests.brokers.binaries import MissingProgramError, find

_APT_GET = """#!/bin/sh
[ "$1" = update ] && exit 0
[ "$5" = {package} ] || {{ echo "no package $5" >&2; exit 100; }}
printf '#!/bin/sh\\n' > {program} && /bin/chmod +x {program}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only folder in PATH, empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    find.cache_clear()
    yield tmp_path
    find.cache_clear()


def _know(monkeypatch: pytest.MonkeyPatch, name: str, package: str | None) -> None:
    monkeypatch.setitem(binaries._SOURCES, name, binaries._Source("install Stored", package))


def _add_apt_get(path: Path, package: str, program: Path) -> None:
    apt_get = path / "apt-get"
    apt_get.write_text(_APT_GET.format(package=package, program=program))
    apt_get.chmod(0o755)


def test_a_program_in_path_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _know(monkeypatch, "stored", "stored-server")
    (path / "stored").touch(mode=0o755)
    assert find("stored") == path / "stored"


def test_a_missing_program_is_installed_as_root(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _know(monkeypatch, "stored", "stored-server")
    _add_apt_get(path, "stored-server", path / "stored")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert find("stored") == path / "stored"


def test_without_root_a_missing_program_is_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _know(monkeypatch, "stored", "stored-server")
    _add_apt_get(path, "stored-server", path / "stored")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingProgramError, match=r"program stored.*install Stored.*apt-get install stored-server"):
        find("stored")


def test_a_failed_installation_tells_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _know(monkeypatch, "stored", "stored-server")
    _add_apt_get(path, "another-package", path / "stored")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(MissingProgramError, match="stored is missing: no package stored-server"):
        find("stored")
