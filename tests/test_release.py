"""A tag becomes a release if it names the version, is on main, is the newest and never moved."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.template.lab import commit_all, git

SCRIPT = Path(__file__).parents[1] / ".ci/release.py"
CHANGELOG = """\
# Changelog

## Unreleased

## 1.4.0 - 2026-11-23

### Added

- A thing.

## 1.3.0 - 2026-10-01

- Old.
"""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Release = Callable[..., Said]


def declare(clone: Path, version: str, changelog: str = CHANGELOG) -> None:
    for folder in (clone, clone / "template/chassis"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "{version}"\n')
    (clone / "CHANGELOG.md").write_text(changelog)
    commit_all(clone, f"version {version}")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose main says 1.4.0 and whose origin has released 1.3.0."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "origin.git")
    git(tmp_path, "clone", "--quiet", "origin.git", "clone")
    folder = tmp_path / "clone"
    declare(folder, "1.3.0")
    git(folder, "tag", "v1.3.0")
    declare(folder, "1.4.0")
    git(folder, "push", "--quiet", "origin", "HEAD:main", "v1.3.0")
    return folder


@pytest.fixture
def release(clone: Path) -> Release:
    """Tags the commit that is checked out, pushes the tag, and asks whether it is released."""

    def tag_and_check(tag: str, *arguments: str, message: str | None = None) -> Said:
        git(clone, "tag", *(("--annotate", "--message", message) if message else ()), tag)
        git(clone, "push", "--quiet", "origin", tag)
        return check(clone, tag, *arguments)

    return tag_and_check


def check(clone: Path, tag: str, *arguments: str) -> Said:
    command = [sys.executable, SCRIPT, tag, *arguments]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("message", [None, "annotated"])
def test_a_good_tag_is_released_with_its_part_of_the_changelog(
    release: Release, message: str | None
) -> None:
    assert release("v1.4.0", "--replaced", "0" * 40, message=message) == Said(
        0, "### Added\n\n- A thing.\n", ""
    )


def test_a_fork_releases_what_it_has_taken_under_a_tag_of_its_own(
    clone: Path, release: Release
) -> None:
    assert release("v1.4.0+globex.1") == Said(0, "### Added\n\n- A thing.\n", "")
    own = CHANGELOG.replace("## 1.4.0", "## 1.4.0+globex.2 - 2026-11-25\n\n- Ours.\n\n## 1.4.0")
    declare(clone, "1.4.0", own)
    git(clone, "push", "--quiet", "origin", "HEAD:main")
    assert release("v1.4.0+globex.2") == Said(0, "- Ours.\n", "")


def test_a_prerelease_is_a_release(clone: Path, release: Release) -> None:
    declare(clone, "1.4.0rc1", CHANGELOG.replace("1.4.0", "1.4.0rc1"))
    git(clone, "push", "--quiet", "origin", "HEAD:main")
    assert release("v1.4.0rc1").code == 0


@pytest.mark.parametrize(
    "tag",
    [
        "v1",
        "v1.4",
        "1.4.0",
        "V1.4.0",
        "v1.4.0-rc1",
        "v1.04.0",
        "v1.4.0.0",
        "v1.4.0.dev1",
        "v1.4.0+x",
    ],
)
def test_a_tag_that_floats_or_is_spelled_freely_is_refused(release: Release, tag: str) -> None:
    said = release(tag)
    assert said.code == 1
    assert f"{tag} floats or is spelled freely" in said.err


def test_a_tag_that_is_no_version_is_refused(release: Release) -> None:
    assert "latest is not a version" in release("latest").err


def test_a_tag_that_was_pushed_over_another_commit_is_refused(release: Release) -> None:
    said = release("v1.4.0", "--replaced", "abcdef1234567890" * 2)
    assert said.code == 1
    assert "v1.4.0 was moved from abcdef123456" in said.err


def test_a_tag_that_moved_while_it_was_being_released_is_refused(
    clone: Path, release: Release
) -> None:
    assert release("v1.4.0").code == 0
    git(clone, "push", "--quiet", "--force", "origin", "v1.3.0^{commit}:refs/tags/v1.4.0")
    assert "is checked out: run again" in check(clone, "v1.4.0").err


def test_a_tag_beside_main_is_refused(clone: Path, release: Release) -> None:
    commit_all(clone, "not merged")
    assert "v1.4.0 is not on main" in release("v1.4.0").err


@pytest.mark.parametrize("path", ["pyproject.toml", "template/chassis/pyproject.toml"])
def test_a_tag_that_a_package_disagrees_with_is_refused(
    clone: Path, release: Release, path: str
) -> None:
    file = clone / path
    file.write_text(file.read_text().replace("1.4.0", "1.4.1"))
    commit_all(clone, "another version")
    git(clone, "push", "--quiet", "origin", "HEAD:main")
    assert f"{path} says 1.4.1: set version = '1.4.0'" in release("v1.4.0").err


def test_a_tag_that_is_not_the_newest_is_refused(clone: Path, release: Release) -> None:
    git(clone, "tag", "v1.10.0", "v1.3.0")
    git(clone, "tag", "v2", "v1.3.0")
    git(clone, "push", "--quiet", "origin", "v1.10.0", "v2")
    assert "v1.4.0 is not newer than v1.10.0: take" in release("v1.4.0").err


@pytest.mark.parametrize(
    "changelog",
    [
        "# Changelog\n\n## Unreleased\n\n- A thing.\n",
        CHANGELOG.replace("### Added\n\n- A thing.\n\n", ""),
    ],
)
def test_a_version_without_notes_is_refused(clone: Path, release: Release, changelog: str) -> None:
    (clone / "CHANGELOG.md").write_text(changelog)
    commit_all(clone, "no notes")
    git(clone, "push", "--quiet", "origin", "HEAD:main")
    assert "CHANGELOG.md says nothing under '## 1.4.0 - YYYY-MM-DD'" in release("v1.4.0").err


def test_an_origin_out_of_reach_is_said(clone: Path) -> None:
    git(clone, "remote", "set-url", "origin", str(clone / "nowhere"))
    said = check(clone, "v1.4.0")
    assert said.code == 1
    assert "not released: git ls-remote --tags origin failed" in said.err
