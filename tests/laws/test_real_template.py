"""The laws on this repository's template and each older version, against plain Copier."""

import shutil
from collections.abc import Callable, Mapping
from functools import cache
from itertools import cycle, product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard import commands
from dockyard.updating.merge import owned
from tests.laws import ground as land
from tests.laws import model
from tests.laws.ground import Ground
from tests.laws.model import ANSWERS_FILE, EXECUTABLE, REGULAR, File, Files
from tests.laws.scenarios import edited_service, newer_release
from tests.laws.tally import LONG, counted, law
from tests.laws.test_laws import sides_of_conflicts
from tests.template import lab

_OLDER_COMMITS = [
    line
    for line in (lab.ROOT / "tests/template/older_commits.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
_ANSWERS = (
    {"bus": "rabbitmq", "inbox": "nats-kv"},
    {"bus": "nats", "inbox": "redis", "owner": "payments"},
    {"bus": "rabbitmq", "inbox": "postgres", "organisation": "globex", "python_version": "3.12"},
)
_NAME = {"service_name": "billing-svc"}


def _release() -> Files:
    paths = lab.template_files()
    return {path: File(lab.template_file(path), _mode(lab.ROOT / path)) for path in paths}


def _mode(path: Path) -> str:
    return EXECUTABLE if path.stat().st_mode & 0o100 else REGULAR


RELEASE = _release()


@pytest.fixture(scope="module")
def laid_down(ground: Ground, home: Path) -> Callable[[int], Files]:
    """What plain Copier makes of the first release for each of the answers."""

    @cache
    def service(number: int) -> Files:
        ground.lay_out_template([RELEASE])
        return _fresh(ground, home, "v1.0.0", _ANSWERS[number])

    return service


def _fresh(ground: Ground, home: Path, ref: str, answers: Mapping[str, str]) -> Files:
    target = home / "fresh" / "billing-svc"
    shutil.rmtree(target.parent, ignore_errors=True)
    target.parent.mkdir()
    return land.on_disk(lab.copy(ground.template, target, ref=ref, **_NAME, **answers))


@law(share=0.01)
@given(number=st.integers(0, len(_ANSWERS) - 1), newer=newer_release(RELEASE))
@counted
def test_an_untouched_service_of_the_real_template_becomes_a_fresh_render(
    ground: Ground, home: Path, laid_down: Callable[[int], Files], number: int, newer: Files
) -> None:
    service = laid_down(number)
    ground.lay_out_template([RELEASE, newer])
    ground.lay_out_service(service)
    done = commands.update(ground.service, in_place=True)
    after, fresh = land.on_disk(ground.service), _fresh(ground, home, "v2.0.0", _ANSWERS[number])
    assert done.conflicts == 0
    assert _managed(after) == _managed(fresh)
    assert _yours(after) == {**_yours(fresh), **_yours(service)}


@law(share=0.02)
@given(data=st.data(), number=st.integers(0, len(_ANSWERS) - 1), newer=newer_release(RELEASE))
@counted
def test_each_line_of_a_team_on_the_real_template_is_in_the_result_or_in_a_reported_conflict(
    ground: Ground,
    laid_down: Callable[[int], Files],
    data: st.DataObject,
    number: int,
    newer: Files,
) -> None:
    service = data.draw(edited_service(laid_down(number)))
    ground.lay_out_template([RELEASE, newer])
    ground.lay_out_service(service)
    predicted = commands.update(ground.service, dry_run=True)
    done = commands.update(ground.service, in_place=True)
    there = model.lines(ground.files(), "team") | model.lines(
        sides_of_conflicts(ground, done), "team"
    )
    assert model.lines(service, "team") <= there
    assert done.tree == predicted.tree
    assert ground.files(predicted.tree) == ground.committed_files()


@pytest.mark.parametrize(
    ("commit", "answers"),
    # Plain Copier updates the oldest and the newest one in every run, in tests/template.
    product(_OLDER_COMMITS, _ANSWERS) if LONG else zip(_OLDER_COMMITS[1:-1], cycle(_ANSWERS)),
    ids=lambda each: each if isinstance(each, str) else "-".join(each.values()),
)
def test_a_service_of_an_older_commit_becomes_a_fresh_render(
    commit: str, answers: Mapping[str, str], tmp_path: Path
) -> None:
    lab.git(tmp_path, "clone", "--quiet", "--no-local", str(lab.ROOT), "template")
    template = tmp_path / "template"
    service = lab.copy(template, tmp_path / "billing-svc", ref=commit, **_NAME, **answers)
    before = land.on_disk(service)
    shutil.rmtree(template / "template")
    lab.lay_down_template(template)
    lab.commit_all(template, "the template of the working tree")

    done = commands.update(service, to="HEAD", in_place=True)

    after = land.on_disk(service)
    (tmp_path / "again").mkdir()
    fresh = land.on_disk(lab.copy(template, tmp_path / "again" / "billing-svc", **_NAME, **answers))
    assert done.conflicts == 0
    assert _managed(after) == _managed(fresh)
    assert {path: after.get(path) for path in _yours(before)} == _yours(before)


_is_yours = owned(lab.YOURS)


def _managed(files: Files) -> Files:
    return {path: file for path, file in files.items() if not _is_yours(path)}


def _yours(files: Files) -> Files:
    return {path: file for path, file in files.items() if _is_yours(path) and path != ANSWERS_FILE}
