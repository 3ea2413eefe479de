"""Which state of a template a service is rendered from, and what it records of it."""

import shutil
from pathlib import Path

import pytest
import yaml
from copier import run_update

from dockyard.rendering.render import render
from dockyard.rendering.template import open_template
from tests.generator.lab import Dockyard, Ran, Repository, git


@pytest.fixture
def new(dockyard: Dockyard, into: Path) -> Dockyard:
    """Lay down a service; it must succeed."""

    def run(source: str | Path, *arguments: str) -> Ran:
        ran = dockyard(
            "new", "billing-svc", "--into", into, "--template", source, "--defaults", *arguments
        )
        assert ran.code == 0, ran.err
        return ran

    return run


def recorded(into: Path) -> dict[str, str]:
    """The answers file of the one service."""
    answers = yaml.safe_load((into / "billing-svc/.copier-answers.yml").read_text())
    assert isinstance(answers, dict)
    return answers


def release(into: Path) -> str:
    """The template's state that the service shows."""
    return (into / "billing-svc/release.txt").read_text().strip()


def test_a_template_without_tags_is_rendered_as_of_head(
    new: Dockyard, repository: Repository, into: Path
) -> None:
    repository.commit({"template/release.txt": "two\n"})

    new(repository.path)

    assert release(into) == "two"


def test_the_newest_release_is_taken_by_version_not_by_age_or_spelling(
    new: Dockyard, repository: Repository, into: Path
) -> None:
    repository.commit({"template/release.txt": "1.10\n"}, tag="v1.10.0")
    repository.commit({"template/release.txt": "1.9\n"}, tag="v1.9.0")
    repository.commit({"template/release.txt": "2.0rc1\n"}, tag="v2.0.0rc1")
    repository.commit({"template/release.txt": "unreleased\n"}, tag="nightly")

    new(repository.path)

    assert (release(into), recorded(into)["_commit"]) == ("1.10", "v1.10.0")


@pytest.mark.parametrize("ref", ["v2.0.0rc1", "v2", None])
def test_a_tag_that_moves_is_never_recorded(
    new: Dockyard, repository: Repository, into: Path, ref: str | None
) -> None:
    tag = "v2.0.0rc1" if ref == "v2.0.0rc1" else "v2.0.0"
    repository.commit({"template/release.txt": "two\n"}, tag=tag)
    git(repository.path, "tag", "--annotate", "--message=moves", "stable")
    git(
        repository.path,
        "tag",
        "--annotate",
        "--message=moves",
        "v2" if ref != "v2.0.0rc1" else "newest",
    )

    new(repository.path, *(["--ref", ref] if ref else []))

    assert recorded(into)["_commit"] == tag


@pytest.mark.parametrize("ref", ["branch", "other"])
def test_a_branch_can_be_asked_for(
    new: Dockyard, repository: Repository, into: Path, tmp_path: Path, ref: str
) -> None:
    git(repository.path, "checkout", "--quiet", "-b", ref)
    commit = repository.commit({"template/release.txt": "branch\n"})
    git(repository.path, "checkout", "--quiet", "-")
    git(tmp_path, "clone", "--quiet", str(repository.path), "clone")

    new(tmp_path / "clone", "--ref", ref)

    assert release(into) == "branch"
    assert commit.startswith(recorded(into)["_commit"])


def test_uncommitted_changes_are_left_out_and_said_to_be(
    new: Dockyard, repository: Repository, into: Path
) -> None:
    (repository.path / "template/release.txt").write_text("dirty\n")
    (repository.path / "template/untracked.txt").write_text("dirty\n")

    ran = new(repository.path)

    assert release(into) == "one"
    assert not (into / "billing-svc/untracked.txt").exists()
    assert f"2 uncommitted changes in {repository.path} are not part of the service" in ran.err
    git(repository.path, "cat-file", "-e", recorded(into)["_commit"])


def test_a_folder_is_recorded_absolute(
    new: Dockyard, repository: Repository, into: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "template").symlink_to(repository.path)

    new("~/template")

    assert recorded(into)["_src_path"] == str(home / "template")


@pytest.mark.parametrize("bare_name", ["remote.git", "remote"])
def test_a_url_is_mirrored_brought_up_to_date_and_understood_by_bare_copier(
    new: Dockyard, repository: Repository, into: Path, tmp_path: Path, bare_name: str
) -> None:
    bare = tmp_path / bare_name
    git(tmp_path, "clone", "--quiet", "--bare", str(repository.path), str(bare))
    new(bare.as_uri())
    (into / "billing-svc").rename(into / "older")
    repository.commit({"template/release.txt": "two\n"}, tag="v1.0.0")
    git(repository.path, "push", "--quiet", str(bare), "HEAD:refs/heads/later", "v1.0.0")

    new(bare.as_uri())

    assert (release(into), recorded(into)["_commit"]) == ("two", "v1.0.0")
    repository.commit({"template/release.txt": "three\n"}, tag="v1.1.0")
    git(repository.path, "push", "--quiet", str(bare), "v1.1.0")
    run_update(into / "billing-svc", defaults=True, overwrite=True, quiet=True)
    assert release(into) == "three"


def test_once_opened_a_remote_template_is_rendered_without_its_source(
    repository: Repository, tmp_path: Path
) -> None:
    bare = tmp_path / "remote.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(repository.path), str(bare))
    opened = open_template(bare.as_uri())
    shutil.rmtree(bare)

    render(
        opened,
        {"service_name": "billing-svc"},
        tmp_path / "service",
        ask=False,
        scratch=tmp_path / "copier",
    )

    assert (tmp_path / "service/release.txt").read_text() == "one\n"


def test_short_names_of_hosts_are_spelled_out(
    new: Dockyard, repository: Repository, into: Path, home: Path
) -> None:
    with (home / ".gitconfig").open("a") as config:
        config.write(
            f'[url "{repository.path}"]\n\tinsteadOf = https://github.com/acme/template.git\n'
        )

    new("gh:acme/template")

    assert recorded(into)["_src_path"] == "https://github.com/acme/template.git"


def test_without_a_template_option_the_environment_names_it(
    dockyard: Dockyard,
    into: Path,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(
        "dockyard.origin.__file__",
        str(tmp_path / "installed/dockyard/origin.py"),
    )
    monkeypatch.setenv("DOCKYARD_TEMPLATE", str(repository.path))

    assert dockyard("new", "billing-svc", "--into", into, "--defaults").code == 0
    assert recorded(into)["_src_path"] == str(repository.path)


def test_without_any_template_it_says_how_to_name_one(
    dockyard: Dockyard, into: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "dockyard.origin.__file__",
        str(tmp_path / "installed/dockyard/origin.py"),
    )

    ran = dockyard("new", "billing-svc", "--into", into, "--defaults")

    assert ran.code == 2
    assert "pass --template" in ran.err


def test_a_checkout_is_its_own_template(
    dockyard: Dockyard, into: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dockyard.origin.__file__",
        str(repository.path / "generator/dockyard/origin.py"),
    )

    assert dockyard("new", "billing-svc", "--into", into, "--defaults").code == 0
    assert recorded(into)["_src_path"] == str(repository.path)
