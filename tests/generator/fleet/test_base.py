"""An update starts from the branch that its pull request goes into, whatever is checked out."""

from pathlib import Path

import pytest

from tests.generator.fleet.conftest import Fleet, branches, rows
from tests.generator.lab import Dockyard, git
from tests.generator.services import Made


@pytest.fixture
def busy(fleet: Fleet, tmp_path: Path) -> Made:
    """A clone whose team works on a feature branch that changes a managed file."""
    work = fleet.add("a-svc")
    bare = tmp_path / "remotes" / "a-svc.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(work.root), str(bare))
    work.root.rename(tmp_path / "work")
    git(fleet.folder, "clone", "--quiet", str(bare), "a-svc")
    made = Made(fleet.folder / "a-svc")
    git(made.root, "checkout", "--quiet", "-b", "feature")
    made.write({"src/feature.py": "secret = 1\n", "release.txt": "mine\n"})
    (made.root / "src/feature.py").write_text("more = 1\n")
    fleet.release()
    return made


def origin(service: Made) -> Path:
    return Path(git(service.root, "remote", "get-url", "origin").strip())


@pytest.mark.parametrize("options", [(), ("--push",)])
def test_unmerged_commits_of_a_feature_branch_are_no_part_of_an_update(
    dockyard: Dockyard, fleet: Fleet, busy: Made, options: tuple[str, ...]
) -> None:
    before = busy.state()["files"], busy.state()["head"], busy.state()["status"]
    base = "origin/trunk" if options else "trunk"

    found = rows(dockyard, "update", fleet.folder, *options, code=0)["a-svc"]

    assert found["state"] == "updated"
    assert found["message"] == f"it is on the branch feature; an update starts from {base}"
    assert branches(busy) == ["dockyard/v1.1.0"]
    changed = git(busy.root, "diff", "--name-only", "origin/trunk", "dockyard/v1.1.0").split()
    assert changed == [".copier-answers.yml", "Makefile", "added.txt"]
    assert git(busy.root, "rev-list", "--count", "origin/trunk..dockyard/v1.1.0") == "1\n"
    assert (busy.state()["files"], busy.state()["head"], busy.state()["status"]) == before


def test_status_says_where_an_update_starts_and_counts_what_is_there(
    dockyard: Dockyard, fleet: Fleet, busy: Made
) -> None:
    git(busy.root, "checkout", "--quiet", "--force", "--detach", "feature")

    found = rows(dockyard, "status", fleet.folder, code=0)["a-svc"]

    assert found["state"] == "outdated"
    assert found["message"].startswith("it is detached at ")
    assert found["message"].endswith("; an update starts from trunk")


def test_commits_that_are_not_pushed_are_no_part_of_a_pull_request(
    dockyard: Dockyard, fleet: Fleet, busy: Made
) -> None:
    git(busy.root, "checkout", "--quiet", "--force", "trunk")
    busy.write({"src/later.py": "later = 1\n"})

    found = rows(dockyard, "update", fleet.folder, "--push", code=0)["a-svc"]

    assert "its trunk is not at the commit of origin/trunk" in found["message"]
    pushed = git(origin(busy), "rev-list", "trunk..dockyard/v1.1.0").split()
    assert len(pushed) == 1


def test_an_update_that_is_pushed_starts_from_what_the_remote_has_now(
    dockyard: Dockyard, fleet: Fleet, busy: Made, tmp_path: Path
) -> None:
    other = Made(tmp_path / "work")
    other.write({"src/main.py": "newer = 1\n"})
    git(other.root, "push", "--quiet", str(origin(busy)), "trunk")

    rows(dockyard, "update", fleet.folder, "--push", code=0)

    assert git(origin(busy), "merge-base", "trunk", "dockyard/v1.1.0") == git(
        origin(busy), "rev-parse", "trunk"
    )


def test_a_remote_that_is_away_is_named_and_nothing_is_written(
    dockyard: Dockyard, fleet: Fleet, busy: Made, tmp_path: Path
) -> None:
    origin(busy).rename(tmp_path / "away")
    before = busy.state()

    found = rows(dockyard, "update", fleet.folder, "--push", code=1)["a-svc"]

    assert "cannot ask origin for the branch that the update starts from" in found["message"]
    assert busy.state() == before


def test_two_worktrees_of_a_repository_get_one_update(
    dockyard: Dockyard, fleet: Fleet, busy: Made
) -> None:
    git(busy.root, "worktree", "add", "--quiet", "--detach", str(fleet.folder / "0-beside"))

    found = rows(dockyard, "update", fleet.folder, code=0)

    assert list(found) == ["a-svc"]
