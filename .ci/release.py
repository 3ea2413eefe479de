"""Refuses a release tag that moves, floats or contradicts the repository; prints its notes.

The release workflow calls it in a full clone, with the tag checked out. It knows git,
pyproject.toml and CHANGELOG.md, and knows nothing of GitHub. It needs the standard library and
`packaging` only.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.version import InvalidVersion, Version

MAIN = "refs/remotes/origin/main"
VERSIONED = ("pyproject.toml", "template/chassis/pyproject.toml")
_OF_A_FORK = re.compile(r"[a-z][a-z0-9]*\.[1-9][0-9]*")
_NO_COMMIT = re.compile(r"0*")


class Refused(Exception):
    """The tag is not released; the message says why and what to do."""


def check(root: Path, tag: str, replaced: str) -> str:
    """The release notes of `tag` in the clone at `root`. Raises Refused.

    `replaced` is the tag's commit before this push: empty or zeros for a new tag.
    """
    version = _version(tag)
    if not _NO_COMMIT.fullmatch(replaced):
        raise Refused(
            f"{tag} was moved from {replaced[:12]}, which services have recorded: "
            "tag a new version."
        )
    commit = _git(root, "rev-parse", "HEAD")
    standing = dict(_remote_tags(root))
    if standing.get(tag) != commit:
        raise Refused(
            f"{tag} stands on {standing.get(tag, 'nothing')} at origin, "
            f"but {commit} is checked out: run again."
        )
    if not _succeeds(root, "merge-base", "--is-ancestor", commit, MAIN):
        raise Refused(f"{tag} is not on main: merge first, then tag what was merged.")
    for path in VERSIONED:
        declared = tomllib.loads((root / path).read_text("utf-8"))["project"]["version"]
        if declared != version.public:
            raise Refused(
                f"{path} says {declared}: set version = {version.public!r}, merge, and tag that."
            )
    newer = [
        other
        for other in standing
        if other != tag and _is_release(other) and Version(other) >= version
    ]
    if newer:
        older_than = ", ".join(sorted(newer, key=Version))
        raise Refused(f"{tag} is not newer than {older_than}: take a higher version.")
    return _notes((root / "CHANGELOG.md").read_text("utf-8"), version)


def _version(tag: str) -> Version:
    """The version that `tag` names. Raises Refused.

    Copier and `dockyard` order tags by PEP 440. Tags such as v1 and v1.2 would have to move. A fork
    adds its name and a number, as in v1.4.0+acme.1, so that its tags are never Dockyard's.
    """
    try:
        version = Version(tag)
    except InvalidVersion:
        raise Refused(f"{tag} is not a version: use a tag like v1.4.0 or v1.4.0rc1.") from None
    if (
        len(version.release) != 3
        or tag != f"v{version}"
        or (version.local and not _OF_A_FORK.fullmatch(version.local))
        or version.is_devrelease
    ):
        raise Refused(
            f"{tag} floats or is spelled freely: write all three numbers, like v1.4.0 or v1.4.0rc1."
        )
    return version


def _is_release(tag: str) -> bool:
    try:
        return bool(_version(tag))
    except Refused:
        return False


def _remote_tags(root: Path) -> Iterator[tuple[str, str]]:
    """The tags at origin with their commits. git lists an annotated tag twice, its commit last."""
    for line in _git(root, "ls-remote", "--tags", "origin").splitlines():
        object_id, _, ref = line.partition("\t")
        yield ref.removeprefix("refs/tags/").removesuffix("^{}"), object_id


def _notes(changelog: str, version: Version) -> str:
    """What the changelog says of `version`, or of the release of Dockyard that a fork takes."""
    for heading in (str(version), version.public):
        section = re.search(
            rf"^## {re.escape(heading)} - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)",
            changelog,
            re.MULTILINE | re.DOTALL,
        )
        if section is not None and section[1].strip():
            return section[1].strip() + "\n"
    raise Refused(
        f"CHANGELOG.md says nothing under '## {version} - YYYY-MM-DD': name what users notice."
    )


def _git(root: Path, *arguments: str) -> str:
    done = _run(root, *arguments)
    if done.returncode != 0:
        raise Refused(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _succeeds(root: Path, *arguments: str) -> bool:
    return _run(root, *arguments).returncode == 0


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", *arguments]
    return subprocess.run(  # noqa: S603 - no shell
        command, cwd=root, check=False, capture_output=True, text=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag")
    parser.add_argument(
        "--replaced", default="", help="the commit that the tag stood on before this push"
    )
    given = parser.parse_args()
    try:
        sys.stdout.write(check(Path(), given.tag, given.replaced))
    except Refused as refusal:
        sys.stderr.write(f"not released: {refusal}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
