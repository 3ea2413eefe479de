"""Plain Copier updates a service: managed files match a fresh render's, and the team's stay."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.template import lab

OLDEST_COMMIT, *_, NEWEST_COMMIT = [
    line
    for line in Path(__file__).with_name("older_commits.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
"""Those between are updated by Dockyard alone, in the laws."""


NIGHTLY = ".github/workflows/nightly.yml"


def clone(template: Path, folder: Path) -> Path:
    lab.git(folder, "clone", "--quiet", str(template), "evolving")
    return folder / "evolving"


def moved(template: Path, rendered: Path, evolving: Path, folder: Path) -> Path:
    """A committed service rendered from the first commit of `evolving`."""
    service = Path(shutil.copytree(rendered, folder / "billing-svc", symlinks=True))
    answers = service / ".copier-answers.yml"
    recorded = answers.read_text("utf-8")
    assert str(template) in recorded
    answers.write_text(recorded.replace(str(template), str(evolving)), "utf-8")
    lab.commit_all(service, "rendered from elsewhere")
    return service


@pytest.fixture
def evolving(template: Path, tmp_path: Path) -> Path:
    """A clone of the template that a test may commit to."""
    return clone(template, tmp_path)


@pytest.fixture
def service(template: Path, rendered: Path, evolving: Path, tmp_path: Path) -> Path:
    """A committed service rendered from the first commit of `evolving`."""
    return moved(template, rendered, evolving, tmp_path)


def evolve(repository: Path) -> None:
    """A further commit: managed and seeded files changed, added and deleted."""
    folder = repository / "template"
    for path in (
        "Makefile.jinja",
        "mypy.ini",
        "chassis/src/chassis/contracts/envelope.py",
        "tests/test_handlers.py.jinja",
    ):
        with (folder / path).open("a", encoding="utf-8") as file:
            file.write("# newer\n")
    (folder / "README.md.jinja").write_text("# Another README of {{ service_name }}\n", "utf-8")
    (folder / "typos.toml.jinja").write_text(
        '# {{ owner }}\n[default]\nlocale = "en-gb"\n', "utf-8"
    )
    (folder / "tests/test_seeded_later.py").write_text(
        '"""Seeded by a newer template."""\n', "utf-8"
    )
    (folder / ".editorconfig").unlink()
    (folder / "deploy/values-staging.yaml.jinja").unlink()
    lab.commit_all(repository, "newer")


def assert_no_conflict(service: Path) -> None:
    assert lab.git(service, "ls-files", "--unmerged") == ""
    assert list(service.rglob("*.rej")) == []
    assert not [path for path, data in lab.tree(service).items() if b"<<<<<<<" in data]


def answers_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """The recorded answers; not where the template lies, and which commit it is."""
    recorded = yaml.safe_load(files[".copier-answers.yml"])
    return {name: answer for name, answer in recorded.items() if not name.startswith("_")}


def without_answers(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if path != ".copier-answers.yml"}


def test_an_update_equals_a_fresh_render_of_the_newer_template(
    evolving: Path, service: Path, tmp_path: Path
) -> None:
    seeded = {path: data for path, data in lab.tree(service).items() if lab.is_yours(path)}
    evolve(evolving)

    lab.update(service)

    updated = lab.tree(service)
    fresh = lab.tree(lab.copy(evolving, tmp_path / "fresh", service_name="billing-svc"))
    assert lab.managed(updated) == lab.managed(fresh)
    assert {"typos.toml", "mypy.ini"} <= updated.keys()
    assert ".editorconfig" not in updated
    assert {path: data for path, data in updated.items() if lab.is_yours(path)} == seeded
    assert_no_conflict(service)


@dataclass(frozen=True)
class Updated:
    """A service after days of work by its team, before and after an update."""

    folder: Path
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    commits: tuple[str, str]
    """Of the template: of the render and of the update."""


@pytest.fixture(scope="module")
def updated(template: Path, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Updated:
    folder = tmp_path_factory.mktemp("updated")
    evolving = clone(template, folder)
    service = moved(template, rendered, evolving, folder)
    first = lab.git(evolving, "rev-parse", "HEAD")
    work(service)
    before = lab.tree(service)
    evolve(evolving)
    lab.update(service)
    commits = (first, lab.git(evolving, "rev-parse", "HEAD"))
    return Updated(service, before, lab.tree(service), commits)


def work(service: Path) -> None:
    """Files of the team deleted, edited and added, and a managed file edited."""
    for path in ("README.md", "deploy/values-staging.yaml", "tests/test_handlers.py", ".gitignore"):
        (service / path).unlink()
    shutil.rmtree(service / "contracts/acme/signup")
    for path in ("src/billing_svc/handlers.py", "pyproject.toml", "deploy/values-prod.yaml"):
        with (service / path).open("a", encoding="utf-8") as file:
            file.write("# ours\n")
    for path in (
        "local.mk",
        "uv.lock",
        "src/billing_svc/payments.py",
        "gen/acme/signup/v1/user_signed_up_pb2.py",
        NIGHTLY,
    ):
        (service / path).parent.mkdir(parents=True, exist_ok=True)
        (service / path).write_text("# ours\n", "utf-8")
    makefile = service / "Makefile"
    makefile.write_text("# drift\n" + makefile.read_text("utf-8"), "utf-8")
    lab.commit_all(service, "days of work")


def test_an_update_touches_no_file_of_the_team_and_brings_none_back(updated: Updated) -> None:
    before, after = (
        {path: data for path, data in files.items() if lab.is_yours(path)}
        for files in (updated.before, updated.after)
    )
    assert after == before
    assert_no_conflict(updated.folder)


def test_a_file_of_the_teams_own_outside_its_rooms_survives_an_update(updated: Updated) -> None:
    assert not lab.is_yours(NIGHTLY)
    assert updated.after[NIGHTLY] == b"# ours\n"


def test_an_edit_of_a_managed_file_is_merged(updated: Updated) -> None:
    assert updated.after["Makefile"].startswith(b"# drift\n")
    assert updated.after["Makefile"].endswith(b"# newer\n")


def test_the_version_is_recorded_without_any_tag_and_moves_with_an_update(updated: Updated) -> None:
    for files, commit in zip((updated.before, updated.after), updated.commits, strict=True):
        assert commit.startswith(yaml.safe_load(files[".copier-answers.yml"])["_commit"])


def test_a_recopy_leaves_the_teams_edits_and_restores_managed_files(
    evolving: Path, service: Path
) -> None:
    handlers = service / "src/billing_svc/handlers.py"
    handlers.write_text("# ours\n", "utf-8")
    makefile = (service / "Makefile").read_bytes()
    (service / "Makefile").write_text("# drift\n", "utf-8")
    lab.commit_all(service, "edits")

    done = lab.copier("recopy", "--vcs-ref", "HEAD", "--overwrite", service, cwd=service.parent)

    assert done.returncode == 0, done.stdout
    assert handlers.read_text("utf-8") == "# ours\n"
    assert (service / "Makefile").read_bytes() == makefile


def test_a_managed_file_that_is_handed_to_the_team_stays_as_it_is(
    evolving: Path, service: Path
) -> None:
    questions = (evolving / "copier.yml").read_text("utf-8")
    listed = questions.replace("    - /local.mk\n", "    - /local.mk\n    - /mypy.ini\n")
    kept = listed.replace(
        "_exclude:\n",
        "_exclude:\n  - \"{% if _copier_operation == 'update' %}/mypy.ini{% endif %}\"\n",
    )
    assert questions != listed != kept
    (evolving / "copier.yml").write_text(kept, "utf-8")
    before = (service / "mypy.ini").read_bytes()
    evolve(evolving)
    lab.update(service)
    assert (service / "mypy.ini").read_bytes() == before


def test_an_update_without_a_newer_template_changes_nothing(service: Path) -> None:
    before = lab.tree(service)
    lab.update(service)
    assert lab.tree(service) == before
    assert lab.git(service, "status", "--porcelain") == ""


def test_a_newer_release_is_found_by_its_tag(evolving: Path, tmp_path: Path) -> None:
    lab.git(evolving, "tag", "v1.0.0")
    service = lab.copy(evolving, tmp_path / "tagged", ref="v1.0.0", service_name="tagged-svc")
    evolve(evolving)
    lab.git(evolving, "tag", "v1.1.0")
    done = lab.copier("update", service, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert b"_commit: v1.1.0\n" in lab.tree(service)[".copier-answers.yml"]


@pytest.mark.parametrize("commit", [OLDEST_COMMIT, NEWEST_COMMIT])
def test_a_service_of_an_older_commit_updates_to_a_fresh_render(
    commit: str, rendered: Path, tmp_path: Path
) -> None:
    lab.git(tmp_path, "clone", "--quiet", "--no-local", str(lab.ROOT), "repository")
    repository = tmp_path / "repository"
    service = lab.copy(repository, tmp_path / "billing-svc", ref=commit, service_name="billing-svc")
    shutil.rmtree(repository / "template")
    lab.lay_down_template(repository)
    lab.commit_all(repository, "the template of the working tree")
    before = lab.tree(service)

    lab.update(service)

    after, fresh = lab.tree(service), lab.tree(rendered)
    assert answers_of(after) == answers_of(fresh)
    assert without_answers(lab.managed(after)) == without_answers(lab.managed(fresh))
    assert {path: after.get(path) for path in before if lab.is_yours(path)} == {
        path: data for path, data in before.items() if lab.is_yours(path)
    }
    assert_no_conflict(service)
