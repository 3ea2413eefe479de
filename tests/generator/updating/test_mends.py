"""How to mend it is said in the words of the command that was run."""

import shlex
from pathlib import Path

import pytest

from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import Made


@pytest.mark.parametrize("command", ["update", "check", "diff", "restore"])
def test_a_template_that_is_gone_is_named_by_the_answers_file(
    refused: Dockyard, evolving: Repository, service: Made, command: str
) -> None:
    evolving.path.rename(evolving.path.with_name("elsewhere"))

    ran = refused(command, service.root)

    assert (
        "Check the address in _src_path of .copier-answers.yml, the network, and your access."
        in ran.err
    )
    assert "--template" not in ran.err


@pytest.mark.parametrize("command", ["new", "adopt"])
def test_a_template_that_is_gone_is_named_by_the_option(
    dockyard: Dockyard, into: Path, service: Made, command: str
) -> None:
    arguments = ["new-svc", "--into", into] if command == "new" else [service.root, "--force"]

    ran = dockyard(command, *arguments, "--template", into / "absent")

    assert ran.code == 2
    assert "Check the address in --template, the network, and your access." in ran.err


def test_a_template_that_is_none_is_named_by_the_answers_file(
    refused: Dockyard, evolving: Repository, service: Made
) -> None:
    (evolving.path / ".git").rename(evolving.path / "no-git")

    ran = refused("check", service.root)

    assert (
        "Name the root of a template's git repository in _src_path of .copier-answers.yml."
        in ran.err
    )


@pytest.mark.parametrize("command", ["update", "diff"])
def test_a_version_that_nobody_knows(refused: Dockyard, service: Made, command: str) -> None:
    ran = refused(command, service.root, "--to", "nope")

    assert "--to 'nope' is no tag, branch or commit" in ran.err
    assert "its newest releases are v1.0.0." in ran.err
    assert "--ref" not in ran.err


def test_a_version_of_a_template_without_releases(
    refused: Dockyard, evolving: Repository, service: Made
) -> None:
    answers = service.root / ".copier-answers.yml"
    commit = git(evolving.path, "rev-parse", "HEAD").strip()
    service.write({answers.name: answers.read_text().replace("v1.0.0", commit)})
    git(evolving.path, "tag", "--delete", "v1.0.0")

    assert (
        "it has no releases: leave --to out for its HEAD."
        in refused("update", service.root, "--to", "nope").err
    )


def test_a_service_of_somebody_else(
    dockyard: Dockyard, service: Made, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    ran = dockyard("check", service.root)

    assert ran.code == 2
    assert f"git config --global --add safe.directory {shlex.quote(str(service.root))}" in ran.err
    assert "If you trust the owner, do as git says and run this again." in ran.err
    assert "Make it a git repository" not in ran.err


def test_a_template_of_somebody_else(
    dockyard: Dockyard,
    evolving: Repository,
    service: Made,
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
) -> None:
    with (home / ".gitconfig").open("a") as config:
        config.write(f"[safe]\n\tdirectory = {service.root}\n")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    ran = dockyard("check", service.root)

    assert ran.code == 2
    assert f"git config --global --add safe.directory {evolving.path}" in ran.err
    assert "If you trust the owner, do as git says and run this again." in ran.err
