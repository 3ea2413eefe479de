"""Services in every kind of repository and place are updated alike."""

import shutil
from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

NEWER: dict[str, str | bytes | None] = {
    "template/Makefile": LINES.replace("line 2\n", "line 2, newer\n")
}


def test_a_service_in_a_folder_of_a_monorepo(
    dockyard: Dockyard, evolving: Repository, into: Path
) -> None:
    made = services.lay_down_service(evolving, into / "mono")
    shutil.rmtree(made.root / ".git")
    (into / "mono").rename(into / "billing-svc")
    (into / "mono/services").mkdir(parents=True)
    (into / "billing-svc").rename(into / "mono/services/billing-svc")
    root = into / "mono/services/billing-svc"
    git(into / "mono", "init", "--quiet")
    mono = Made(into / "mono")
    mono.write({"other/Makefile": "other\n"})
    services.release(evolving, {**NEWER, "template/old.cfg": None}, "v1.1.0")
    (into / "mono/other/Makefile").write_text("uncommitted elsewhere\n")

    committed = dockyard("update", root)
    assert committed.code == 0, committed.err
    branch = "dockyard/services/billing-svc/v1.1.0"
    changed = git(into / "mono", "diff", "--name-only", "HEAD", branch).split()
    assert changed == [
        f"services/billing-svc/{path}" for path in (".copier-answers.yml", "Makefile", "old.cfg")
    ]
    written = dockyard("update", root, "--in-place")
    assert written.code == 0, written.err
    assert git(into / "mono", "write-tree") == git(into / "mono", "rev-parse", f"{branch}^{{tree}}")
    assert git(into / "mono", "status", "--porcelain").splitlines()[0] == " M other/Makefile"


@pytest.mark.parametrize(
    ("folder", "branch"),
    [
        ("team a", "team%20a"),
        ("naïve", "naïve"),
        ("100%", "100%25"),
        (".hidden", "%2Ehidden"),
        ("a..b.", "a%2E.b%2E"),
        ("tool.lock", "tool%2Elock"),
        ("w?[*]@{", "w%3F%5B%2A]%40{"),
    ],
)
def test_a_folder_whose_name_no_branch_can_have(
    dockyard: Dockyard, evolving: Repository, into: Path, folder: str, branch: str
) -> None:
    services.render_into(evolving, into / folder / "billing-svc")
    git(into, "init", "--quiet")
    Made(into).write({})
    services.release(evolving, NEWER, "v1.1.0")

    ran = dockyard("update", into / folder / "billing-svc")

    assert ran.code == 0, ran.err
    assert f"Committed on the branch dockyard/{branch}/billing-svc/v1.1.0." in ran.out
    assert "is on the branch" in dockyard("update", into / folder / "billing-svc").out


def test_a_detached_head_is_updated_like_any_commit(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    git(service.root, "checkout", "--quiet", "--detach")

    assert dockyard("update", service.root).code == 0
    assert dockyard("update", service.root, "--in-place").code == 0


def test_a_shallow_clone_is_updated_like_any_other(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path
) -> None:
    service.write({"src/main.py": "ours\n"})
    git(tmp_path, "clone", "--quiet", "--depth=1", service.root.as_uri(), "shallow")
    services.release(evolving, NEWER, "v1.1.0")

    assert dockyard("update", tmp_path / "shallow").code == 0
    assert dockyard("check", tmp_path / "shallow").code == 1


def test_a_linked_worktree_is_updated_like_any_other(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path
) -> None:
    git(service.root, "worktree", "add", "--quiet", "-b", "feature", str(tmp_path / "linked"))
    services.release(evolving, NEWER, "v1.1.0")

    ran = dockyard("update", tmp_path / "linked", "--in-place")

    assert ran.code == 0, ran.err
    assert git(tmp_path / "linked", "status", "--porcelain").splitlines() == [
        "M  .copier-answers.yml",
        "M  Makefile",
    ]
    assert git(service.root, "status", "--porcelain") == ""
