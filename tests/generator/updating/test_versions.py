"""Which versions a service may record, and which it may go to."""

from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

NEWER: dict[str, str | bytes | None] = {
    "template/Makefile": LINES.replace("line 2\n", "line 2, newer\n")
}


def records(service: Made, version: str) -> None:
    """Let the service record `version`."""
    answers = service.root / ".copier-answers.yml"
    service.write(
        {answers.name: answers.read_text().replace("_commit: v1.0.0", f"_commit: {version}")}
    )


def maintenance(evolving: Repository, tag: str) -> None:
    """A release that comes from v1.0.0 and that no later one has."""
    git(evolving.path, "switch", "--quiet", "--create", "maintenance", "v1.0.0")
    services.release(evolving, {"template/old.cfg": "mended\n"}, tag)
    git(evolving.path, "switch", "--quiet", "trunk")


def test_an_older_release_of_a_maintenance_branch(
    refused: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    maintenance(evolving, "v1.0.1")
    records(service, "v1.1.0")

    ran = refused("update", service.root, "--to", "v1.0.1")

    assert "v1.0.1 is older than v1.1.0, which the service has: updates go forward only" in ran.err


def test_from_a_maintenance_branch_to_a_newer_release(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    maintenance(evolving, "v1.0.1")
    records(service, "v1.0.1")

    assert dockyard("update", service.root).code == 0
    assert git(service.root, "show", "dockyard/v1.1.0:Makefile") == NEWER["template/Makefile"]


def test_a_release_that_comes_from_the_services_is_newer_whatever_its_name(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    records(service, "v2026.1")
    git(evolving.path, "tag", "v2026.1", "v1.0.0")
    git(evolving.path, "tag", "--delete", "v1.0.0")
    services.release(evolving, NEWER, "v2.0.0")

    assert dockyard("update", service.root, "--to", "v2.0.0").code == 0


@pytest.mark.parametrize("name", ["trunk", "HEAD", "refs/heads/trunk", "origin/trunk"])
@pytest.mark.parametrize("command", ["update", "check", "diff"])
def test_a_recorded_branch_says_not_what_rendered_the_service(
    refused: Dockyard, evolving: Repository, service: Made, command: str, name: str
) -> None:
    git(evolving.path, "update-ref", "refs/remotes/origin/trunk", "HEAD")
    records(service, name)
    services.release(evolving, NEWER, "v1.1.0")

    ran = refused(command, service.root)

    assert f"the service records {name}, a branch, which moves" in ran.err
    assert "write that version as _commit into .copier-answers.yml" in ran.err
    assert "Nearest to the service is v1.0.0" in ran.err


def test_a_tag_of_a_tag_is_the_release_of_its_commit(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER)
    git(evolving.path, "tag", "--annotate", "--message=inner", "inner")
    git(evolving.path, "tag", "--annotate", "--message=outer", "v1.1.0", "inner")

    assert dockyard("update", service.root, "--in-place").code == 0
    service.write({})

    assert dockyard("check", service.root).out == "billing-svc is current and clean: v1.1.0.\n"


def test_a_relative_template_counts_from_the_service_and_never_from_here(
    dockyard: Dockyard,
    evolving: Repository,
    service: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = service.root / ".copier-answers.yml"
    text = answers.read_text()
    service.write({answers.name: text.replace(str(evolving.path), "../../evolving")})
    (tmp_path / "a/b").mkdir(parents=True)
    git(tmp_path, "clone", "--quiet", str(evolving.path), "here/evolving")
    (tmp_path / "here/a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here/a/b")
    assert dockyard("check", service.root).code == 0

    evolving.path.rename(tmp_path / "moved")

    ran = dockyard("check", service.root)
    assert ran.code == 2
    assert f"cannot reach the template {evolving.path}: there is no such folder" in ran.err


@pytest.mark.parametrize("length", [7, 40])
def test_a_recorded_commit_is_a_version(
    dockyard: Dockyard, evolving: Repository, service: Made, length: int
) -> None:
    records(service, git(evolving.path, "rev-parse", "v1.0.0")[:length])
    services.release(evolving, NEWER, "v1.1.0")

    assert dockyard("update", service.root).code == 0


def test_a_tag_of_the_name_of_a_branch_is_a_version(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    git(evolving.path, "branch", "v1.0.0")
    services.release(evolving, NEWER, "v1.1.0")

    assert dockyard("update", service.root).code == 0


def test_a_tag_that_moved_is_named_and_is_not_the_teams_drift(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    assert dockyard("update", service.root).code == 0
    git(service.root, "merge", "--quiet", "dockyard/v1.1.0")
    assert dockyard("check", service.root).code == 0
    newest = LINES.replace("line 2\n", "line 2, newest\n")
    services.release(evolving, {"template/Makefile": newest})
    git(evolving.path, "tag", "--force", "v1.1.0")

    checked = dockyard("check", service.root)

    assert checked.code == 1
    assert f"the tag v1.1.0 of {evolving.path} has moved since it rendered this service" in (
        checked.err
    )
    assert "drifted" not in checked.out
    assert dockyard("update", service.root).code == 0
    git(service.root, "merge", "--quiet", "dockyard/v1.1.0")
    assert (service.root / "Makefile").read_text() == newest
    assert dockyard("check", service.root).code == 0
