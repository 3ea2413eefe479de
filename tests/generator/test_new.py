"""`dockyard new` when all is well."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.generator.lab import Dockyard, Repository, git, listing


def test_a_service_is_rendered_locked_and_committed_once(
    dockyard: Dockyard, repository: Repository, into: Path
) -> None:
    ran = dockyard(
        "new", "billing-svc", "--into", into, "--template", repository.path, "--defaults"
    )

    service = into / "billing-svc"
    assert ran.code == 0, ran.err
    assert git(service, "ls-files").split() == [
        ".copier-answers.yml",
        ".gitignore",
        "pyproject.toml",
        "release.txt",
        "uv.lock",
    ]
    assert git(service, "rev-list", "--count", "--all").strip() == "1"
    assert git(service, "status", "--porcelain", "--ignored") == ""
    assert (
        git(service, "log", "--format=%an <%ae> %D").strip()
        == "Ada <ada@example.com> HEAD -> trunk"
    )
    assert [path.name for path in into.iterdir()] == ["billing-svc"]


def test_it_ends_with_three_commands_to_try(
    dockyard: Dockyard, repository: Repository, into: Path
) -> None:
    ran = dockyard(
        "new", "billing-svc", "--into", into, "--template", repository.path, "--defaults"
    )

    folder = os.path.relpath(into / "billing-svc")
    assert ran.out.splitlines()[-3:] == [f"  cd {folder}", "  make test", "  make dev"]


def test_answers_are_recorded(dockyard: Dockyard, repository: Repository, into: Path) -> None:
    dockyard(
        *("new", "billing-svc", "--into", into, "--template", repository.path, "--defaults"),
        *("--data", "owner=payments", "--data", "bus=nats"),
    )

    answers = yaml.safe_load((into / "billing-svc/.copier-answers.yml").read_text())
    assert answers == {
        "_commit": git(repository.path, "describe", "--always").strip(),
        "_src_path": str(repository.path),
        "bus": "nats",
        "owner": "payments",
        "service_name": "billing-svc",
    }


def test_missing_folders_on_the_way_are_made(
    dockyard: Dockyard, repository: Repository, into: Path
) -> None:
    ran = dockyard(
        "new", "billing-svc", "--into", into / "a/b", "--template", repository.path, "--defaults"
    )

    assert ran.code == 0, ran.err
    assert (into / "a/b/billing-svc/uv.lock").is_file()
    assert [path.name for path in into.iterdir()] == ["a"]


def test_contracts_are_generated_into_the_commit_and_leftovers_removed(
    dockyard: Dockyard, repository: Repository, into: Path
) -> None:
    repository.commit(
        {
            "template/Makefile": (
                "contracts:\n\tmkdir gen && uv --version > gen/made && touch build.log\n"
            ),
            "template/buf.gen.yaml": "version: v2\n",
        }
    )

    ran = dockyard(
        "new", "billing-svc", "--into", into, "--template", repository.path, "--defaults"
    )

    assert ran.code == 0, ran.err
    assert "gen/made" in git(into / "billing-svc", "ls-files").split()
    assert "build.log" not in listing(into / "billing-svc")


def test_a_user_unknown_to_git_gets_a_neutral_author_and_is_told(
    dockyard: Dockyard, repository: Repository, into: Path, home: Path
) -> None:
    (home / ".gitconfig").unlink()

    ran = dockyard(
        "new", "billing-svc", "--into", into, "--template", repository.path, "--defaults"
    )

    assert ran.code == 0, ran.err
    assert git(into / "billing-svc", "log", "--format=%an %D").strip() == "Dockyard HEAD -> main"
    assert "--reset-author" in ran.err


def test_the_users_taste_in_git_changes_no_byte(
    dockyard: Dockyard, repository: Repository, into: Path, home: Path, tmp_path: Path
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("pre-commit", "commit-msg", "post-checkout"):
        (hooks / hook).write_text("#!/bin/sh\nexit 1\n")
        (hooks / hook).chmod(0o755)
    (tmp_path / "ignore").write_text("uv.lock\n*.txt\n")
    with (home / ".gitconfig").open("a") as config:
        config.write(
            f"[core]\n\thooksPath = {hooks}\n"
            f"\texcludesFile = {tmp_path / 'ignore'}\n\tautocrlf = true\n"
            "[commit]\n\tgpgSign = true\n[gpg]\n\tprogram = false\n"
            f"[init]\n\ttemplateDir = {tmp_path / 'absent'}\n"
        )

    ran = dockyard(
        "new", "billing-svc", "--into", into, "--template", repository.path, "--defaults"
    )

    assert ran.code == 0, ran.err
    assert {"uv.lock", "release.txt"} <= set(git(into / "billing-svc", "ls-files").split())
    assert (into / "billing-svc/release.txt").read_bytes() == b"one\n"


def test_it_works_from_within_a_git_hook(
    dockyard: Dockyard,
    repository: Repository,
    into: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere.index"))

    ran = dockyard(
        "new", "billing-svc", "--into", into, "--template", repository.path, "--defaults"
    )

    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert ran.code == 0, ran.err
    assert git(into / "billing-svc", "status", "--porcelain") == ""


def test_the_environment_is_left_as_it_was(
    dockyard: Dockyard, repository: Repository, into: Path
) -> None:
    before = dict(os.environ)

    dockyard("new", "billing-svc", "--into", into, "--template", repository.path, "--defaults")

    assert dict(os.environ) == before


def test_missing_answers_are_asked_on_a_terminal(repository: Repository, into: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "dockyard", "new", "billing-svc", "--into", str(into)]
    command += ["--template", str(repository.path), "--data", "bus=nats"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True
    ) as asking:
        try:
            os.close(theirs)
            screen = b""
            while b"owner" not in screen:
                screen += os.read(ours, 1024)
            os.write(ours, b"-team\r")
            while chunk := _read(ours):
                screen += chunk
            _, errors = asking.communicate()
        finally:
            asking.kill()
            os.close(ours)

    assert asking.returncode == 0, errors.decode()
    answers = yaml.safe_load((into / "billing-svc/.copier-answers.yml").read_text())
    assert (answers["owner"], answers["bus"]) == ("platform-team", "nats")


def test_the_version_is_shown(dockyard: Dockyard) -> None:
    ran = dockyard("--version")

    assert ran.code == 0
    assert ran.out.startswith("dockyard ")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1024)
    except OSError:  # how Linux says that the other side is closed
        return b""
