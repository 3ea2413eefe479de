"""What an update makes of each kind of change: carried over, kept or reported. Never lost."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

NEWER = LINES.replace("line 2\n", "line 2, newer\n")
OURS = LINES.replace("line 19\n", "line 19, ours\n")
CLASH = LINES.replace("line 2\n", "line 2, ours\n")
BOTH = NEWER.replace("line 19\n", "line 19, ours\n")


def update(dockyard: Dockyard, service: Made, *options: str) -> dict[str, Any]:
    """The record of an in-place update."""
    ran = dockyard("update", service.root, "--in-place", "--json", *options)
    assert ran.code in {0, 1}, ran.err
    return dict(json.loads(ran.out))


def state(record: dict[str, Any], path: str) -> tuple[str, str | None] | None:
    """The state of `path`, with the kind of its conflict."""
    files = {
        file["path"]: (file["state"], file["conflict"]) for file in record["steps"][0]["files"]
    }
    return files.get(path)


def stages(service: Made) -> dict[str, list[str]]:
    """Which sides the index has of each unmerged path."""
    found: dict[str, list[str]] = {}
    for line in git(service.root, "ls-files", "--unmerged").splitlines():
        meta, path = line.split("\t")
        found.setdefault(path, []).append(meta.split()[2])
    return found


def test_the_same_lines_changed_on_both_sides_are_left_as_git_leaves_a_merge(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"Makefile": CLASH})
    services.release(
        evolving, {"template/Makefile": NEWER, "template/added.txt": "added\n"}, "v1.1.0"
    )

    found = update(dockyard, service)

    assert state(found, "Makefile") == ("conflict", "content")
    assert stages(service) == {"Makefile": ["1", "2", "3"]}
    text = (service.root / "Makefile").read_text()
    assert "<<<<<<< service\nline 2, ours\n=======\nline 2, newer\n>>>>>>> v1.1.0\n" in text
    assert git(service.root, "status", "--porcelain").splitlines() == [
        "M  .copier-answers.yml",
        "UU Makefile",
        "A  added.txt",
    ]
    git(service.root, "checkout", "--ours", "Makefile")
    assert (service.root / "Makefile").read_text() == CLASH


def test_a_branch_cannot_hold_conflicts_so_nothing_is_written(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"Makefile": CLASH})
    services.release(evolving, {"template/Makefile": NEWER}, "v1.1.0")
    before = service.state()

    ran = dockyard("update", service.root)

    assert (ran.code, service.state()) == (1, before)
    assert "1 conflict, which a branch cannot hold: nothing was written." in ran.out
    assert f"dockyard update {service.root} --in-place" in ran.out


def test_an_edit_follows_a_file_that_the_template_renames(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"old.cfg": f"old\n{OURS}"})
    services.release(
        evolving, {"template/old.cfg": None, "template/new.cfg": f"old\n{NEWER}"}, "v1.1.0"
    )

    found = update(dockyard, service)

    assert (service.root / "new.cfg").read_text() == f"old\n{BOTH}"
    assert not (service.root / "old.cfg").exists()
    assert (state(found, "new.cfg"), found["conflicts"]) == (("merged", None), 0)


def test_a_change_follows_a_file_that_the_team_renames(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"old.cfg": None, "ours.cfg": f"old\n{OURS}"})
    services.release(evolving, {"template/old.cfg": f"old\n{NEWER}"}, "v1.1.0")

    update(dockyard, service)

    assert (service.root / "ours.cfg").read_text() == f"old\n{BOTH}"


def test_an_edit_of_a_file_that_the_template_deletes_is_a_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"old.cfg": f"old\n{OURS}"})
    services.release(evolving, {"template/old.cfg": None}, "v1.1.0")

    found = update(dockyard, service)

    assert state(found, "old.cfg") == ("conflict", "modify/delete")
    assert (service.root / "old.cfg").read_text() == f"old\n{OURS}"
    assert stages(service) == {"old.cfg": ["1", "2"]}


def test_a_deleted_file_that_the_template_changes_is_a_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"old.cfg": None})
    services.release(evolving, {"template/old.cfg": f"old\n{NEWER}"}, "v1.1.0")

    assert state(update(dockyard, service), "old.cfg") == ("conflict", "modify/delete")
    assert stages(service) == {"old.cfg": ["1", "3"]}


def test_a_deleted_file_that_the_template_leaves_alone_stays_away(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"old.cfg": None})
    services.release(evolving, {"template/Makefile": NEWER}, "v1.1.0")

    assert state(update(dockyard, service), "old.cfg") == ("deleted", None)
    assert not (service.root / "old.cfg").exists()


def test_the_same_path_added_on_both_sides_is_a_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"added.txt": "ours\n"})
    services.release(evolving, {"template/added.txt": "theirs\n"}, "v1.1.0")

    assert state(update(dockyard, service), "added.txt") == ("conflict", "add/add")
    assert "ours\n" in (service.root / "added.txt").read_text()


@pytest.mark.parametrize("language", ["C", "de"])
def test_kinds_of_conflicts_do_not_depend_on_the_users_language(
    dockyard: Dockyard,
    evolving: Repository,
    service: Made,
    monkeypatch: pytest.MonkeyPatch,
    language: str,
) -> None:
    monkeypatch.setenv("LANGUAGE", language)
    monkeypatch.setenv("LC_ALL", "C.utf8")
    if language == "de" and "Auf Branch" not in git(service.root, "status"):
        pytest.skip("git has no German here")
    service.write(
        {"Makefile": CLASH, "old.cfg": None, "added.txt": "ours\n", "logo.png": b"\0ours"}
    )
    services.release(evolving, {"template/Makefile": NEWER, "template/old.cfg": f"newer\n{LINES}"})
    services.release(
        evolving, {"template/added.txt": "newer\n", "template/logo.png": b"\0newer"}, "v1.1.0"
    )

    found = update(dockyard, service)

    kinds = {path: state(found, path) for path in ("Makefile", "old.cfg", "added.txt", "logo.png")}
    assert [kind[1] for kind in kinds.values() if kind] == [
        "content",
        "modify/delete",
        "add/add",
        "binary",
    ]
    messages = [file["message"] for file in found["steps"][0]["files"] if file["path"] == "old.cfg"]
    assert "deleted in service and modified in v1.1.0" in messages[0]


def test_a_file_renamed_to_two_names_is_a_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"old.cfg": None, "ours.cfg": f"old\n{LINES}"})
    services.release(
        evolving, {"template/old.cfg": None, "template/theirs.cfg": f"old\n{LINES}"}, "v1.1.0"
    )

    assert state(update(dockyard, service), "old.cfg") == ("conflict", "rename")
    assert (service.root / "ours.cfg").read_text() == f"old\n{LINES}"


def test_a_file_of_the_teams_own_in_a_folder_that_the_template_renames_is_asked_about(
    dockyard: Dockyard, evolving: Repository, into: Path
) -> None:
    services.release(
        evolving, {f"template/conf/{name}.cfg": f"{name}\n{LINES}" for name in "ab"}, "v1.1.0"
    )
    made = services.lay_down_service(evolving, into / "folder-svc", "v1.1.0")
    made.write({"conf/own.cfg": "own\n"})
    (evolving.path / "template/conf").rename(evolving.path / "template/settings")
    services.release(evolving, {}, "v1.2.0")

    found = update(dockyard, made)

    assert state(found, "settings/own.cfg") == ("conflict", "rename")
    assert (made.root / "settings/own.cfg").read_text() == "own\n"


@pytest.mark.parametrize(
    "setting", ["renames = false", "directoryRenames = false", "conflictStyle = diff3"]
)
def test_the_users_taste_in_merges_changes_nothing(
    dockyard: Dockyard, evolving: Repository, service: Made, home: Path, setting: str
) -> None:
    service.write({"old.cfg": f"old\n{OURS}", "Makefile": CLASH})
    services.release(
        evolving,
        {"template/old.cfg": None, "template/new.cfg": f"old\n{NEWER}", "template/Makefile": NEWER},
        "v1.1.0",
    )
    before = json.loads(dockyard("update", service.root, "--dry-run", "--json").out)
    with (home / ".gitconfig").open("a") as config:
        config.write(f"[merge]\n\t{setting}\n")

    assert json.loads(dockyard("update", service.root, "--dry-run", "--json").out) == before


def test_a_binary_file_changed_on_both_sides_keeps_ours_and_is_a_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"logo.png": b"\0ours" * 100})
    services.release(evolving, {"template/logo.png": b"\0theirs" * 100}, "v1.1.0")

    assert state(update(dockyard, service), "logo.png") == ("conflict", "binary")
    assert (service.root / "logo.png").read_bytes() == b"\0ours" * 100


def test_a_file_where_the_template_puts_a_folder_is_a_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"conf": "ours\n"})
    services.release(evolving, {"template/conf/a.txt": "a\n"}, "v1.1.0")

    found = update(dockyard, service)

    assert [
        file["conflict"] for file in found["steps"][0]["files"] if file["state"] == "conflict"
    ] == ["file/directory"]
    assert "ours\n" in [
        content.decode(errors="replace") for _, content in services.contents(service.root).values()
    ]


def test_a_symlink_against_a_file_is_a_conflict_of_their_modes(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    (service.root / "added.txt").symlink_to("Makefile")
    service.write({})
    services.release(evolving, {"template/added.txt": "theirs\n"}, "v1.1.0")

    found = update(dockyard, service)

    assert "mode" in [file["conflict"] for file in found["steps"][0]["files"]]


def test_an_executable_bit_and_an_edit_of_the_other_side_come_together(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"Makefile": OURS})
    (evolving.path / "template/Makefile").chmod(0o755)
    services.release(evolving, {"template/Makefile": NEWER}, "v1.1.0")

    update(dockyard, service)

    assert services.contents(service.root)["Makefile"] == ("run", BOTH.encode())


def test_symlinks_of_the_template_arrive_as_symlinks(
    dockyard: Dockyard, evolving: Repository, into: Path
) -> None:
    questions = f"_preserve_symlinks: true\n{services.QUESTIONS}"
    services.release(evolving, {"copier.yml": questions}, "v1.1.0")
    made = services.lay_down_service(evolving, into / "link-svc", "v1.1.0")
    (evolving.path / "template/link").symlink_to("Makefile")
    services.release(evolving, {}, "v1.2.0")

    update(dockyard, made)

    assert services.contents(made.root)["link"] == ("link", b"Makefile")


def test_windows_line_endings_stay(dockyard: Dockyard, evolving: Repository, into: Path) -> None:
    dos = LINES.replace("\n", "\r\n")
    services.release(evolving, {"template/dos.txt": dos}, "v1.1.0")
    made = services.lay_down_service(evolving, into / "dos-svc", "v1.1.0")
    made.write({"dos.txt": OURS.replace("\n", "\r\n")})
    services.release(evolving, {"template/dos.txt": NEWER.replace("\n", "\r\n")}, "v1.2.0")

    update(dockyard, made)

    assert (made.root / "dos.txt").read_bytes() == BOTH.replace("\n", "\r\n").encode()


def test_a_user_with_autocrlf_sees_no_drift_and_no_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made, home: Path
) -> None:
    with (home / ".gitconfig").open("a") as config:
        config.write("[core]\n\tautocrlf = true\n")
    git(service.root, "rm", "-rq", "--cached", ".")
    git(service.root, "reset", "-q", "--hard")
    assert b"\r\n" in (service.root / "Makefile").read_bytes()
    services.release(evolving, {"template/Makefile": NEWER}, "v1.1.0")

    assert dockyard("diff", service.root).code == 0
    found = update(dockyard, service)

    assert found["conflicts"] == 0
    assert (service.root / "Makefile").read_bytes() == NEWER.replace("\n", "\r\n").encode()
    assert git(service.root, "diff", "--name-only") == ""


def test_names_that_are_no_utf8_survive(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    name = os.fsdecode(b"caf\xe9 \n\t.txt")
    service.write({name: "ours\n", f"src/{name}": "ours\n"})
    services.release(evolving, {"template/Makefile": NEWER}, "v1.1.0")

    update(dockyard, service)

    assert {name, f"src/{name}"} <= services.contents(service.root).keys()
    assert git(service.root, "status", "--porcelain").splitlines() == [
        "M  .copier-answers.yml",
        "M  Makefile",
    ]


def test_a_rename_in_case_alone_arrives(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"old.cfg": f"old\n{OURS}"})
    services.release(
        evolving, {"template/old.cfg": None, "template/OLD.cfg": f"old\n{LINES}"}, "v1.1.0"
    )

    update(dockyard, service)

    assert (service.root / "OLD.cfg").read_text() == f"old\n{OURS}"
    assert "old.cfg" not in {path.name for path in service.root.iterdir()}


def test_a_file_may_become_a_folder_and_a_folder_a_file(
    dockyard: Dockyard, evolving: Repository, into: Path
) -> None:
    services.release(evolving, {"template/a": "file\n", "template/b/c/d": "deep\n"}, "v1.1.0")
    made = services.lay_down_service(evolving, into / "shape-svc", "v1.1.0")
    services.release(evolving, {"template/a": None, "template/b/c/d": None})
    (evolving.path / "template/b/c").rmdir()
    (evolving.path / "template/b").rmdir()
    services.release(evolving, {"template/a/x": "x\n", "template/b": "b\n"}, "v1.2.0")

    update(dockyard, made)

    found = services.contents(made.root)
    assert (found["a/x"], found["b"]) == (("file", b"x\n"), ("file", b"b\n"))
    assert git(made.root, "diff", "--name-only") == ""


def test_a_submodule_of_the_service_is_left_alone(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path
) -> None:
    part = tmp_path / "part"
    part.mkdir()
    git(part, "init", "--quiet")
    git(part, "commit", "--quiet", "--allow-empty", "--message=part")
    git(
        service.root,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(part),
        "vendor/part",
    )
    service.write({})
    services.release(evolving, {"template/Makefile": NEWER}, "v1.1.0")

    assert dockyard("update", service.root).code == 0
    update(dockyard, service)

    assert git(service.root, "status", "--porcelain").splitlines() == [
        "M  .copier-answers.yml",
        "M  Makefile",
    ]
    assert git(service.root, "ls-tree", "dockyard/v1.1.0", "vendor/part").startswith("160000")


# --- The team's files


def test_the_teams_files_are_not_looked_at(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"src/main.py": "ours\n", "src/own.py": "own\n", "src/extra.py": None})
    services.release(
        evolving,
        {"template/src/main.py.jinja": "newer\n", "template/src/extra.py": "extra = 2\n"},
        "v1.1.0",
    )

    found = update(dockyard, service)

    assert (service.root / "src/main.py").read_text() == "ours\n"
    assert (service.root / "src/own.py").read_text() == "own\n"
    assert not (service.root / "src/extra.py").exists()
    assert (found["conflicts"], state(found, "src/extra.py")) == (0, ("deleted", None))


def test_what_a_newer_template_seeds_comes_once_and_never_over_the_teams_own(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"src/taken.py": "ours\n"})
    services.release(
        evolving,
        {"template/src/seeded.py": "seeded\n", "template/src/taken.py": "seeded\n"},
        "v1.1.0",
    )
    assert state(update(dockyard, service), "src/seeded.py") == ("seeded", None)
    assert (service.root / "src/seeded.py").read_text() == "seeded\n"
    assert (service.root / "src/taken.py").read_text() == "ours\n"

    service.write({"src/seeded.py": None})
    services.release(evolving, {"template/src/seeded.py": "seeded, newer\n"}, "v1.2.0")
    update(dockyard, service)
    assert not (service.root / "src/seeded.py").exists()


@pytest.mark.parametrize("is_edited", [False, True])
def test_a_managed_file_that_becomes_the_teams_stays_as_it_is(
    dockyard: Dockyard, evolving: Repository, service: Made, is_edited: bool
) -> None:
    text = OURS if is_edited else LINES
    service.write({"Makefile": text})
    listed = services.QUESTIONS.replace("    - /README.md\n", "    - /README.md\n    - /Makefile\n")
    services.release(evolving, {"copier.yml": listed, "template/Makefile": NEWER}, "v1.1.0")

    found = update(dockyard, service)

    assert (service.root / "Makefile").read_text() == text
    assert found["conflicts"] == 0


def test_a_file_of_the_teams_that_becomes_managed_is_merged_or_a_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write(
        {"README.md": "# Ours alone\n", "src/main.py": "name = 'billing-svc'\nours = 1\n"}
    )
    listed = services.QUESTIONS.replace("    - /src\n    - /README.md\n", "    - /src/own\n")
    services.release(
        evolving, {"copier.yml": listed, "template/README.md.jinja": "# Managed\n"}, "v1.1.0"
    )

    found = update(dockyard, service)

    assert state(found, "README.md") == ("conflict", "content")
    assert "# Ours alone\n" in (service.root / "README.md").read_text()
    assert state(found, "src/main.py") == ("drifted", None)


def test_an_untouched_file_of_the_teams_that_becomes_managed_is_updated(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    listed = services.QUESTIONS.replace("    - /README.md\n", "")
    services.release(
        evolving, {"copier.yml": listed, "template/README.md.jinja": "# Managed\n"}, "v1.1.0"
    )

    update(dockyard, service)

    assert (service.root / "README.md").read_text() == "# Managed\n"


def test_a_managed_file_that_the_team_moves_to_its_own_room_is_not_followed_there(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"old.cfg": None, "src/old.cfg": f"old\n{LINES}"})
    services.release(evolving, {"template/old.cfg": f"old\n{NEWER}"}, "v1.1.0")

    found = update(dockyard, service)

    assert (service.root / "src/old.cfg").read_text() == f"old\n{LINES}"
    assert state(found, "old.cfg") == ("conflict", "modify/delete")


def test_a_file_of_the_teams_where_the_template_seeds_a_folder_is_a_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"src/main.py": None, "src/extra.py": None})
    (service.root / "src").rmdir()
    service.write({"src": "one file of ours\n"})
    services.release(evolving, {"template/src/seeded.py": "seeded\n"}, "v1.1.0")

    found = update(dockyard, service)

    assert found["conflicts"] == 1
    assert b"one file of ours\n" in [
        content for _, content in services.contents(service.root).values()
    ]


def test_a_folder_of_the_teams_where_the_template_puts_a_file_is_a_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"conf/own/a.cfg": "ours\n"})
    listed = services.QUESTIONS.replace("    - /README.md\n", "    - /README.md\n    - /conf/own\n")
    services.release(evolving, {"copier.yml": listed, "template/conf": "a file\n"}, "v1.1.0")

    found = update(dockyard, service)

    assert found["conflicts"] == 1
    assert (service.root / "conf/own/a.cfg").read_text() == "ours\n"


def test_drift_that_the_template_does_not_touch_is_named_and_kept(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"old.cfg": f"old\n{OURS}", ".github/own.yml": "own\n"})
    services.release(evolving, {"template/Makefile": NEWER}, "v1.1.0")

    found = update(dockyard, service)

    assert state(found, "old.cfg") == ("drifted", None)
    assert (service.root / "old.cfg").read_text() == f"old\n{OURS}"
    assert (service.root / ".github/own.yml").read_text() == "own\n"
