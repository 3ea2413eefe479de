"""What nobody foresaw ends with 2 and a sentence; 1 would say that a person has to act."""

import errno
import os
from pathlib import Path

import copier
import pytest

from dockyard import commands
from tests.generator import services
from tests.generator.lab import Dockyard, Repository
from tests.generator.services import LINES, Made


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("boom"), "a defect of dockyard: RuntimeError: boom (test_unforeseen.py:"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/here"),
            "cannot go on: /here: No space left on device. Mend",
        ),
    ],
)
def test_an_error_that_nobody_foresaw(
    refused: Dockyard,
    service: Made,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    sentence: str,
) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr(commands, "check", fail)

    ran = refused("check", service.root)

    assert ran.err.startswith(f"dockyard: {sentence}")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("path", ["..", "../../billing-svc", "../src/.."])
def test_a_service_is_the_same_from_a_folder_in_it(
    dockyard: Dockyard, service: Made, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(service.root / "src")

    ran = dockyard("check", path)

    assert (ran.code, ran.out) == (0, "billing-svc is current and clean: v1.0.0.\n"), ran.err


@pytest.mark.parametrize("command", ["check", "update", "adopt"])
def test_a_full_disk_under_the_cache(
    refused: Dockyard,
    evolving: Repository,
    service: Made,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    services.release(evolving, {"template/old.cfg": "newer\n"}, "v1.1.0")
    monkeypatch.setattr(copier, "run_copy", full)
    options = ["--template", evolving.path, "--force"] if command == "adopt" else []

    ran = refused(command, service.root, *options)

    assert (
        "/dockyard/renders: No space left on device. "
        "Mend that, or name another folder in DOCKYARD_CACHE_DIR." in ran.err
    )


@pytest.mark.parametrize("command", ["check", "update"])
def test_a_cache_that_cannot_be_written(
    refused: Dockyard, service: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DOCKYARD_CACHE_DIR", str(tmp_path / "file/cache"))

    ran = refused(command, service.root)

    assert f"cannot write to Dockyard's cache {tmp_path / 'file/cache'}" in ran.err
    assert "DOCKYARD_CACHE_DIR" in ran.err
    assert "--into" not in ran.err


def test_a_repository_without_an_index(dockyard: Dockyard, service: Made) -> None:
    (service.root / ".git/index").unlink()
    assert dockyard("check", service.root).code == 0
    assert "uncommitted changes" in dockyard("update", service.root).err

    (service.root / "Makefile").unlink()
    ran = dockyard("restore", service.root)

    assert ran.code == 0, ran.err
    assert (service.root / "Makefile").read_text() == LINES
