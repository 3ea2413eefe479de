"""What people save while an update in place is made is never written over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dockyard.service import Service
from dockyard.updating import objects, worktree
from dockyard.updating.scratch_repository import ScratchRepository
from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

NEWER: dict[str, str | bytes | None] = {
    "template/Makefile": LINES.replace("line 2\n", "line 2, newer\n"),
    "template/old.cfg": f"newer\n{LINES}",
}
SAVED = LINES.replace("line 19\n", "line 19, saved\n")


@pytest.fixture
def outdated(evolving: Repository, service: Made) -> Made:
    services.release(evolving, NEWER, "v1.1.0")
    return service


def once_planned(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call `act` when the result is known, and before anything is written."""
    real = objects.bring

    def acting(scratch: ScratchRepository, service: Service, wanted: list[str]) -> None:
        act()
        real(scratch, service, wanted)

    monkeypatch.setattr(objects, "bring", acting)


def before_the_first_move(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    real = worktree._rename

    def acting(source: Path, target: Path) -> None:
        monkeypatch.setattr(worktree, "_rename", real)
        act()
        real(source, target)

    monkeypatch.setattr(worktree, "_rename", acting)


@pytest.mark.parametrize("path", ["Makefile", "README.md"])
def test_a_file_saved_while_the_update_is_planned(
    dockyard: Dockyard, outdated: Made, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    once_planned(lambda: (outdated.root / path).write_text(SAVED), monkeypatch)

    ran = dockyard("update", outdated.root, "--in-place")

    assert (ran.code, (outdated.root / path).read_text()) == (2, SAVED)
    assert "has 1 uncommitted change: commit them" in ran.err
    assert git(outdated.root, "status", "--porcelain") == f" M {path}\n"


def test_a_file_saved_while_a_restore_is_planned(
    dockyard: Dockyard, service: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.write({"Makefile": "drift\n"})
    once_planned(lambda: (service.root / "Makefile").write_text(SAVED), monkeypatch)

    ran = dockyard("restore", service.root)

    assert (ran.code, (service.root / "Makefile").read_text()) == (2, SAVED)


def test_a_commit_made_while_the_update_is_planned(
    dockyard: Dockyard, outdated: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    once_planned(lambda: outdated.write({"Makefile": SAVED}), monkeypatch)

    ran = dockyard("update", outdated.root, "--in-place")

    assert ran.code == 2
    assert (
        f"another commit was checked out in {outdated.root} meanwhile: "
        "nothing was written; run this" in ran.err
    )
    assert git(outdated.root, "status", "--porcelain") == ""
    assert git(outdated.root, "show", "HEAD:Makefile") == SAVED


def test_a_file_saved_between_the_last_look_and_the_move(
    dockyard: Dockyard, outdated: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_the_first_move(lambda: (outdated.root / "old.cfg").write_text(SAVED), monkeypatch)

    ran = dockyard("update", outdated.root, "--in-place")

    assert ran.code == 2
    assert "has 1 uncommitted change" in ran.err
    assert (outdated.root / "old.cfg").read_text() == SAVED
    assert git(outdated.root, "status", "--porcelain") == " M old.cfg\n"


def test_a_file_saved_where_one_has_just_moved_away(
    dockyard: Dockyard, outdated: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = worktree._rename

    def acting(source: Path, target: Path) -> None:
        if target == outdated.root / ".copier-answers.yml":
            (outdated.root / "Makefile").write_text(SAVED)
        real(source, target)

    monkeypatch.setattr(worktree, "_rename", acting)

    ran = dockyard("update", outdated.root, "--in-place")

    assert ran.code == 2
    assert "What was saved is in Makefile.dockyard-kept: put it where it belongs" in ran.err
    assert (outdated.root / "Makefile.dockyard-kept").read_text() == SAVED
    assert git(outdated.root, "status", "--porcelain") == "?? Makefile.dockyard-kept\n"


@pytest.mark.parametrize("bit", ["skip-worktree", "assume-unchanged"])
def test_changes_that_git_was_told_not_to_see(dockyard: Dockyard, outdated: Made, bit: str) -> None:
    git(outdated.root, "update-index", f"--{bit}", "Makefile")
    (outdated.root / "Makefile").write_text(SAVED)

    ran = dockyard("update", outdated.root, "--in-place")

    assert (ran.code, (outdated.root / "Makefile").read_text()) == (2, SAVED)
    assert "changes in Makefile that `git status` does not show" in ran.err
    assert f"`git update-index --no-{bit} Makefile`" in ran.err


def test_line_endings_of_the_checkout_are_no_changes(dockyard: Dockyard, outdated: Made) -> None:
    git(outdated.root, "config", "core.autocrlf", "true")
    git(outdated.root, "rm", "--quiet", "--cached", "-r", ".")
    git(outdated.root, "reset", "--quiet", "--hard")
    assert (outdated.root / "Makefile").read_bytes().startswith(b"line 1\r\n")

    ran = dockyard("update", outdated.root, "--in-place")

    assert ran.code == 0, ran.err
    assert b"line 2, newer\r\n" in (outdated.root / "Makefile").read_bytes()


def test_a_filter_of_the_users_is_heeded(dockyard: Dockyard, outdated: Made) -> None:
    outdated.write({".gitattributes": "*.cfg filter=loud\n"})
    git(outdated.root, "config", "filter.loud.clean", "tr A-Z a-z")
    git(outdated.root, "config", "filter.loud.smudge", "tr a-z A-Z")
    (outdated.root / "old.cfg").unlink()
    git(outdated.root, "checkout", "--quiet", "old.cfg")
    assert (outdated.root / "old.cfg").read_text().startswith("OLD\n")

    ran = dockyard("update", outdated.root, "--in-place")

    assert ran.code == 0, ran.err
    assert (outdated.root / "old.cfg").read_text().startswith("NEWER\n")
