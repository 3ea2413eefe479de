"""Objects come into a service's repository whole, and stay there when Dockyard's cache goes."""

import os
import shutil
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest

from dockyard.programs.cache import cache_folder
from dockyard.updating.objects import _linked
from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

BLOB = "one line\n"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--bare", "store.git")
    return tmp_path / "store.git"


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    made = tmp_path / "objects"
    made.mkdir()
    made.chmod(0o755)
    return made


@pytest.fixture
def oid(store: Path) -> str:
    (store / "file").write_text(BLOB)
    return git(store, "hash-object", "-w", "file").strip()


def file_of(oid: str, folder: Path) -> Path:
    return folder / oid[:2] / oid[2:]


@pytest.mark.parametrize("is_linkable", [True, False])
def test_what_an_update_brings_stays_when_the_cache_is_deleted(
    dockyard: Dockyard,
    evolving: Repository,
    service: Made,
    monkeypatch: pytest.MonkeyPatch,
    is_linkable: bool,
) -> None:
    if not is_linkable:
        # As on a file system of its own.
        monkeypatch.setattr(Path, "hardlink_to", _refuse)
    many = {f"template/new/{number}.txt": f"{number}\n{LINES}" for number in range(150)}
    services.release(evolving, many, "v1.1.0")

    ran = dockyard("update", service.root)

    assert ran.code == 0, ran.err
    shutil.rmtree(cache_folder("renders"))
    assert git(service.root, "fsck", "--strict", "--full", "--no-dangling") == ""
    assert git(service.root, "show", "dockyard/v1.1.0:new/149.txt") == f"149\n{LINES}"


def test_a_broken_object_in_the_cache_never_gets_into_a_service(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, {"template/new.txt": BLOB}, "v1.1.0")
    assert dockyard("update", service.root, "--dry-run").code == 0
    oid = git(evolving.path, "rev-parse", "v1.1.0:template/new.txt").strip()
    broken = file_of(oid, cache_folder("renders") / "objects.git/objects")
    another = file_of(
        git(evolving.path, "rev-parse", "v1.1.0:copier.yml").strip(), evolving.path / ".git/objects"
    )
    broken.unlink()
    shutil.copy(another, broken)

    ran = dockyard("update", service.root)

    assert ran.code == 0, ran.err
    assert git(service.root, "show", "dockyard/v1.1.0:new.txt") == BLOB
    assert git(service.root, "fsck", "--strict", "--full", "--no-dangling") == ""


def test_a_link_keeps_the_bytes_and_makes_its_folder_as_the_others(
    store: Path, objects: Path, oid: str
) -> None:
    objects.chmod(0o2775)
    assert _linked(oid, store / "objects", objects)
    assert file_of(oid, objects).read_bytes() == file_of(oid, store / "objects").read_bytes()
    assert S_IMODE(file_of(oid, objects).parent.stat().st_mode) == S_IMODE(objects.stat().st_mode)
    assert _linked(oid, store / "objects", objects), "what is there is there"


@pytest.mark.parametrize("content", [b"", b"no zlib", None])
def test_what_is_not_the_object_is_not_linked(
    store: Path, objects: Path, oid: str, content: bytes | None
) -> None:
    file = file_of(oid, store / "objects")
    file.chmod(0o644)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert not _linked(oid, store / "objects", objects)
    assert list(objects.iterdir()) == []


def test_an_object_for_one_user_alone_is_not_linked_into_a_shared_repository(
    store: Path, objects: Path, oid: str
) -> None:
    file_of(oid, store / "objects").chmod(0o400)
    assert not _linked(oid, store / "objects", objects)
    objects.chmod(0o700)
    assert _linked(oid, store / "objects", objects)


def _refuse(*_: Any) -> None:
    raise OSError(os.strerror(18))
