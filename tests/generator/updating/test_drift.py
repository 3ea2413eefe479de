"""`dockyard check`, `diff` and `restore`."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

NEWER: dict[str, str | bytes | None] = {
    "template/Makefile": LINES.replace("line 2\n", "line 2, newer\n")
}
DRIFT = LINES.replace("line 19\n", "line 19, ours\n")


def drift(service: Made) -> None:
    """Every way to drift, beside work that is none."""
    (service.root / "tool.ini").chmod(0o755)
    service.write(
        {
            "Makefile": DRIFT,
            "old.cfg": None,
            "src/main.py": "ours\n",
            "README.md": None,
            "own.txt": "own\n",
        }
    )


def test_a_current_and_clean_service_is_well(dockyard: Dockyard, service: Made) -> None:
    service.write({"src/main.py": "ours\n", "own.txt": "own\n"})

    ran = dockyard("check", service.root)

    assert (ran.code, ran.out) == (0, "billing-svc is current and clean: v1.0.0.\n")


def test_an_outdated_service_is_told_how_far_it_is_behind(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    services.release(evolving, {"template/old.cfg": "newer\n"}, "v1.2.0")

    ran = dockyard("check", service.root)

    assert (ran.code, ran.out) == (
        1,
        "billing-svc is 2 versions behind: v1.0.0, the newest is v1.2.0.\n",
    )


def test_drift_is_found_where_it_is_and_nowhere_else(dockyard: Dockyard, service: Made) -> None:
    drift(service)
    before = service.state()

    ran = dockyard("check", service.root, "--json")

    assert (ran.code, service.state()) == (1, before)
    assert json.loads(ran.out)["drifted"] == [
        {"path": "Makefile", "how": "modified"},
        {"path": "old.cfg", "how": "deleted"},
        {"path": "tool.ini", "how": "mode"},
    ]


def test_drift_counts_before_it_is_committed(dockyard: Dockyard, service: Made) -> None:
    (service.root / "Makefile").write_text(DRIFT)
    before = service.state()

    assert dockyard("check", service.root).code == 1
    assert service.state() == before


def test_files_that_are_not_the_templates_are_not_read(dockyard: Dockyard, service: Made) -> None:
    git(service.root, "config", "filter.unreadable.clean", "false")
    git(service.root, "config", "filter.unreadable.required", "true")
    (service.root / ".git/info/attributes").write_text("dump.bin filter=unreadable\n")
    (service.root / "old.cfg").unlink()
    services.lay_down(service.root, {"dump.bin": "large\n", "old.cfg/dump.bin": "large\n"})

    ran = dockyard("check", service.root, "--json")

    assert ran.code == 1, ran.err
    assert json.loads(ran.out)["drifted"] == [{"path": "old.cfg", "how": "deleted"}]


def test_a_managed_folder_behind_a_link_is_drift(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, {"template/docs/a.md": "a\n"}, "v1.1.0")
    git(
        service.root,
        "merge",
        "--quiet",
        dockyard("update", service.root).out.split()[-1].rstrip("."),
    )
    shutil.move(service.root / "docs", service.root / "papers")
    (service.root / "docs").symlink_to("papers")

    for _ in range(2):
        ran = dockyard("check", service.root, "--json")
        assert json.loads(ran.out)["drifted"] == [{"path": "docs/a.md", "how": "deleted"}], ran.err
        service.write({})


def test_what_a_sparse_checkout_leaves_out_is_no_drift(dockyard: Dockyard, service: Made) -> None:
    git(service.root, "sparse-checkout", "set", "--no-cone", "/*", "!/old.cfg")
    assert not (service.root / "old.cfg").exists()

    assert dockyard("check", service.root).code == 0


def test_a_check_without_a_template_cannot_say(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    evolving.path.rename(evolving.path.with_name("elsewhere"))

    assert dockyard("check", service.root).code == 2


def test_diff_shows_drift_as_a_patch_that_leads_from_the_render_to_the_service(
    dockyard: Dockyard, evolving: Repository, service: Made, into: Path, tmp_path: Path
) -> None:
    drift(service)

    ran = dockyard("diff", service.root)

    assert ran.code == 1
    (tmp_path / "drift.patch").write_text(ran.out)
    service.root.rename(into / "drifted")
    services.render_into(evolving, into / "billing-svc")
    git(into / "billing-svc", "init", "--quiet")
    git(into / "billing-svc", "apply", str(tmp_path / "drift.patch"))
    rendered, drifted = services.contents(into / "billing-svc"), services.contents(into / "drifted")
    managed = {"Makefile", "old.cfg", "tool.ini", "logo.png"}
    assert {path: rendered.get(path) for path in managed} == {
        path: drifted.get(path) for path in managed
    }


def test_a_patch_without_binary_files_applies_with_patch_too(
    dockyard: Dockyard, evolving: Repository, service: Made, into: Path, tmp_path: Path
) -> None:
    service.write({"Makefile": DRIFT, "old.cfg": None, "tool.ini": ""})
    (tmp_path / "drift.patch").write_text(dockyard("diff", service.root).out)
    service.root.rename(into / "drifted")
    services.render_into(evolving, into / "billing-svc")

    patch = ["patch", "--quiet", "-p1", "-i", str(tmp_path / "drift.patch")]
    subprocess.run(patch, cwd=into / "billing-svc", check=True)

    rendered, drifted = services.contents(into / "billing-svc"), services.contents(into / "drifted")
    assert rendered == drifted


def test_diff_without_drift_is_empty(dockyard: Dockyard, service: Made) -> None:
    ran = dockyard("diff", service.root)

    assert (ran.code, ran.out) == (0, "")


def test_diff_to_a_version_is_what_the_update_would_change(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"Makefile": DRIFT})
    services.release(evolving, NEWER, "v1.1.0")

    shown = dockyard("diff", service.root, "--to", "v1.1.0")

    assert shown.code == 1
    dockyard("update", service.root)
    assert shown.out == git(
        service.root, "diff-tree", "-r", "-p", "--full-index", "--binary", "HEAD", "dockyard/v1.1.0"
    )
    assert (
        json.loads(dockyard("diff", service.root, "--to", "v1.1.0", "--json").out)["patch"]
        == shown.out
    )


def test_restore_brings_managed_files_back_and_touches_nothing_else(
    dockyard: Dockyard, service: Made
) -> None:
    rendered = services.contents(service.root)
    drift(service)

    ran = dockyard("restore", service.root)

    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[:3] == ["Makefile", "old.cfg", "tool.ini"]
    expected = {**rendered, "src/main.py": ("file", b"ours\n"), "own.txt": ("file", b"own\n")}
    del expected["README.md"]
    assert services.contents(service.root) == expected
    assert git(service.root, "diff", "--name-only") == ""
    assert dockyard("check", service.root).code == 0


def test_restore_of_named_files_leaves_the_others(dockyard: Dockyard, service: Made) -> None:
    drift(service)

    ran = dockyard("restore", service.root, "old.cfg", "./Makefile", "--json")

    assert json.loads(ran.out)["restored"] == ["old.cfg", "Makefile"]
    assert os.access(service.root / "tool.ini", os.X_OK)


def test_a_managed_file_that_was_just_deleted_comes_back(dockyard: Dockyard, service: Made) -> None:
    (service.root / "old.cfg").unlink()

    assert dockyard("restore", service.root).code == 0
    assert git(service.root, "status", "--porcelain") == ""


def test_restore_without_drift_does_nothing(dockyard: Dockyard, service: Made) -> None:
    before = service.state()

    ran = dockyard("restore", service.root)

    assert (ran.code, ran.out) == (0, "billing-svc has no drift there.\n")
    assert service.state() == before


@pytest.mark.parametrize(
    "name", ["src/main.py", "own.txt", ".copier-answers.yml", "../billing-svc/Makefile"]
)
def test_what_is_not_managed_cannot_be_restored(
    refused: Dockyard, service: Made, name: str
) -> None:
    service.write({"own.txt": "own\n"})

    assert (
        f"{name} is no managed file of this service" in refused("restore", service.root, name).err
    )


def test_restore_does_not_throw_away_what_is_not_committed(
    refused: Dockyard, service: Made
) -> None:
    (service.root / "Makefile").write_text(DRIFT)

    assert "has 1 uncommitted change" in refused("restore", service.root).err


def test_restore_does_not_write_over_files_unknown_to_git(refused: Dockyard, service: Made) -> None:
    service.write({"old.cfg": None, ".gitignore": "*.cfg\n"})
    (service.root / "old.cfg").write_text("mine\n")

    assert "this would write over old.cfg, unknown to git" in refused("restore", service.root).err


def test_restore_does_not_write_over_what_was_never_committed(
    refused: Dockyard, service: Made
) -> None:
    service.write({"old.cfg": None})
    (service.root / "old.cfg").write_text("mine\n")

    assert "this would write over old.cfg, unknown to git" in refused("restore", service.root).err


def test_restore_does_not_write_over_a_file_that_git_is_to_forget(
    refused: Dockyard, service: Made
) -> None:
    git(service.root, "rm", "--quiet", "--cached", "Makefile")
    (service.root / "Makefile").write_text(DRIFT)

    assert "has 1 uncommitted change" in refused("restore", service.root).err


def test_a_service_in_a_folder_of_a_monorepo_drifts_and_is_restored(
    dockyard: Dockyard, service: Made, into: Path
) -> None:
    shutil.rmtree(service.root / ".git")
    mono = Made(into)
    git(into, "init", "--quiet")
    mono.write({"billing-svc/Makefile": DRIFT, "Makefile": "of the monorepo\n"})

    found = dockyard("check", service.root, "--json")
    done = dockyard("restore", service.root)

    assert json.loads(found.out)["drifted"] == [{"path": "Makefile", "how": "modified"}]
    assert done.code == 0, done.err
    assert git(into, "status", "--porcelain") == "M  billing-svc/Makefile\n"
    assert (into / "Makefile").read_text() == "of the monorepo\n"
