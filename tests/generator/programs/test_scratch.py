"""What killed commands leave in temporary folders and in the cache is removed, and nothing else."""

import os
from pathlib import Path
from time import time

import pytest

from dockyard.programs.scratch import scratch_folder
from tests.generator import services
from tests.generator.lab import Dockyard, Repository
from tests.generator.services import Made

_DAY = 24 * 60 * 60


def leave(folder: Path, days: float) -> Path:
    """What a command leaves that was killed so many days ago."""
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/file").touch()
    os.utime(folder, times=(time() - days * _DAY,) * 2)
    return folder


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("scratch", "dockyard-work-a"),
        ("home/.cache/dockyard/renders", ".rendering-a"),
        ("home/.cache/dockyard/checkouts", ".making-a"),
    ],
)
def test_what_was_left_a_day_ago_is_removed(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path, where: str, name: str
) -> None:
    services.release(evolving, {"template/old.cfg": "newer\n"}, "v1.1.0")
    old = leave(tmp_path / where / name, days=1.1)
    new = leave(tmp_path / where / f"{name}-2", days=0.9)
    others = leave(tmp_path / where / "of-somebody-else", days=3)

    assert dockyard("update", service.root).code == 0

    assert (old.exists(), new.exists(), others.exists()) == (False, True, True)


def test_what_belongs_to_another_user_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = leave(tmp_path / "dockyard-work-a", days=2)
    monkeypatch.setattr(os, "getuid", lambda: old.stat().st_uid + 1)

    with scratch_folder("dockyard-work-", tmp_path):
        pass

    assert old.exists()
