"""Server programs are found, else installed if possible, else asked for in one sentence."""

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def test_a_missing_program_is_installed_as_root(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _know(monkeypatch, "stored", "stored-server")
    _add_apt_get(path, "stored-server", path / "stored")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert find("stored") == path / "stored"


def test_without_root_a_missing_program_is_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _know(monkeypatch, "stored", "stored-server")
    _add_apt_get(path, "stored-server", path / "stored")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        MissingProgramError, match=r"program stored.*install Stored.*apt-get install stored-server"
    ):
        find("stored")


def test_a_failed_installation_tells_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _know(monkeypatch, "stored", "stored-server")
    _add_apt_get(path, "another-package", path / "stored")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(MissingProgramError, match="stored is missing: no package stored-server"):
        find("stored")


def test_an_installation_takes_none_of_the_time_of_the_test_that_asks_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _know(monkeypatch, "stored", "stored-server")
    _add_apt_get(path, "stored-server", path / "stored")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    run, left = subprocess.run, []

    def timed(*arguments: Any, **options: Any) -> Any:
        left.append(signal.getitimer(signal.ITIMER_REAL)[0])
        return run(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", timed)
    before, _ = signal.setitimer(signal.ITIMER_REAL, 200)
    try:
        find("stored")
        after, _ = signal.getitimer(signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, before)
    assert left == [0, 0]
    assert 0 < after <= 200


def test_of_two_workers_that_miss_a_program_one_installs_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _know(monkeypatch, "stored", "stored-server")
    (path / "apt-get").touch(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(binaries, "_install", lambda *_: pytest.fail("it is there"))
    lock = fcntl.flock

    def after_the_other(folder: int, operation: int) -> None:
        lock(folder, operation)
        (path / "stored").touch(mode=0o755)

    monkeypatch.setattr(fcntl, "flock", after_the_other)
    assert find("stored") == path / "stored"


def test_an_installation_that_hangs_ends_in_a_sentence(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _know(monkeypatch, "stored", "stored-server")
    (path / "apt-get").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (path / "apt-get").chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(binaries, "_APT_GET_SECONDS", 0.1)
    with pytest.raises(
        MissingProgramError,
        match=r"apt-get update -qq took longer than 0\.1 s.*stored-server yourself",
    ):
        find("stored")


def test_all_that_is_missing_is_installed_at_once_before_tests_without_root(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "_SOURCES", {"wheel": binaries._Source("install the wheel")})
    for name in ("one", "two"):
        _know(monkeypatch, name, f"{name}-server")
    installed: list[str] = []

    def install(name: str, package: str) -> None:
        installed.append(package)
        (path / name).touch(mode=0o755)

    monkeypatch.setattr(binaries, "_install", install)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (path / "apt-get").touch(mode=0o755)
    assert binaries.main() == 0
    assert installed == ["one-server", "two-server"]


def test_what_cannot_be_installed_ends_in_a_sentence(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        binaries, "_SOURCES", {"stored": binaries._Source("install Stored", "stored-server")}
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert binaries.main() == 1
    assert "apt-get install stored-server" in capsys.readouterr().err
