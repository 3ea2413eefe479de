"""The cache is not trusted because it is there: what is damaged is made again."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dockyard.programs.cache import cache_folder
from dockyard.rendering import copying
from dockyard.updating import plan
from tests.generator import services
from tests.generator.lab import Dockyard, Ran, Repository, git
from tests.generator.services import Made

Damage = Callable[[Path], None]


def empty(file: Path) -> None:
    file.chmod(0o644)
    file.write_bytes(b"")


def other_bytes(file: Path) -> None:
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def executable(file: Path) -> None:
    file.chmod(file.stat().st_mode ^ 0o111)


@pytest.fixture
def predict(dockyard: Dockyard, evolving: Repository, service: Made) -> Callable[[], Ran]:
    """The record of the next update, in which a templated and a plain file change."""
    changed = {"template/old.cfg": "newer\n", "template/tool.ini.jinja": "# {{ owner }}, newer\n"}
    services.release(evolving, changed, "v1.1.0")

    def run() -> Ran:
        ran = dockyard("update", service.root, "--dry-run", "--json")
        assert ran.code == 0, ran.err
        return ran

    return run


def files(*rooms: str) -> Iterator[Path]:
    """Every file in these folders of the cache."""
    for room in rooms:
        yield from (path for path in cache_folder(room).rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", [os.unlink, empty, other_bytes])
def test_all_files_damaged_change_no_update(predict: Callable[[], Ran], damage: Damage) -> None:
    before = predict()
    for file in [*files("checkouts", "renders")]:
        damage(file)

    assert predict() == before


@pytest.mark.parametrize("damage", [os.unlink, other_bytes, executable])
def test_one_file_of_a_checkout_damaged_changes_no_update(
    predict: Callable[[], Ran], damage: Damage
) -> None:
    before = predict()
    for file in [*files("checkouts")]:
        for entry in cache_folder("renders").glob("*.json"):
            entry.unlink()
        damage(file)

        assert predict() == before, file


@pytest.mark.parametrize("damage", [os.unlink, empty, other_bytes])
def test_one_object_of_a_render_damaged_changes_no_update(
    predict: Callable[[], Ran], damage: Damage
) -> None:
    before = predict()
    objects = [file for file in files("renders") if "objects.git/objects" in str(file)]
    for file in objects[:: max(1, len(objects) // 5)]:
        damage(file)

        assert predict() == before, file


def test_the_entry_of_another_render_is_not_taken(predict: Callable[[], Ran]) -> None:
    before = predict()
    one, other = sorted(cache_folder("renders").glob("*.json"))
    shutil.copy(one, other)

    assert predict() == before


def test_a_checkout_that_is_swept_during_a_render_is_made_again(
    predict: Callable[[], Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = predict()
    shutil.rmtree(cache_folder("renders"))
    real, sweeps = copying.copy_again, iter([os.unlink])

    def swept(*arguments: object, **options: object) -> None:
        real(*arguments, **options)  # type: ignore[arg-type] # passed on as they came
        for sweep in sweeps:
            for file in [*files("checkouts")]:
                sweep(file)

    monkeypatch.setattr(copying, "copy_again", swept)

    assert predict() == before


def test_a_cache_that_is_deleted_during_an_update_is_made_again(
    predict: Callable[[], Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = predict()
    real, deletions = plan.merge, iter([shutil.rmtree])

    def deleted(*arguments: object, **options: object) -> object:
        for delete in deletions:
            delete(cache_folder("renders"))
        return real(*arguments, **options)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(plan, "merge", deleted)

    assert predict() == before


def test_a_mirror_that_lacks_an_object_is_fetched_again(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path
) -> None:
    bare = tmp_path / "template.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(evolving.path), str(bare))
    answers = service.root / ".copier-answers.yml"
    service.write({answers.name: answers.read_text().replace(str(evolving.path), bare.as_uri())})
    before = dockyard("check", service.root, "--json")
    (mirror,) = cache_folder("templates").glob("*.git")
    for pack in mirror.glob("objects/pack/*"):
        pack.unlink()
    for file in [*files("renders", "checkouts")]:
        file.unlink()

    assert dockyard("check", service.root, "--json") == before
