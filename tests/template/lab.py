"""Throw-away git repositories of the template, and plain Copier at work on them.

Knows git, Copier's command line and the questions; knows nothing of the `dockyard` command.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pathspec
import yaml

from dockyard.rendering import questions

ROOT = Path(__file__).parents[2]
QUESTIONS = questions.read_folder(ROOT)
YOURS: Sequence[str] = [
    *QUESTIONS["yours"]["default"],
    *QUESTIONS["our"]["default"].get("yours", ()),
]
ORGANISATION = "organisation/organisation.yml"
"""What a fork says of itself. There is none in Dockyard's own repository."""


class Render(Protocol):
    """The folder of a render with these answers, defaults for the rest. Raises Copier's errors."""

    def __call__(self, **answers: str) -> Path: ...


def run(command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Output of `command`, both streams; fails the test with all of it when the command fails."""
    done = attempt(command, cwd, env)
    assert done.returncode == 0, f"{command} in {cwd} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def attempt(
    command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The finished `command`, both streams in `stdout`."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def git(cwd: Path, *arguments: str) -> str:
    return run(
        ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", *arguments], cwd
    ).strip()


def commit_all(folder: Path, message: str) -> str:
    """Id of a commit of everything in `folder`, which becomes a repository if it is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(
        folder,
        "commit",
        "--quiet",
        "--no-gpg-sign",
        "--no-verify",
        "--allow-empty",
        "--message",
        message,
    )
    return git(folder, "rev-parse", "HEAD")


def template_files() -> list[str]:
    """Paths of the template in the working tree, uncommitted ones included, ignored ones not."""
    listed = git(
        ROOT,
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "copier.yml",
        "template",
        ORGANISATION,
    )
    return sorted({path for path in listed.split("\0") if path and (ROOT / path).is_file()})


def template_file(path: str) -> bytes:
    """The template's file `path`, but for a fork's defaults: the tests know Dockyard's."""
    text = (ROOT / path).read_bytes()
    if path != ORGANISATION:
        return text
    sections = [*yaml.safe_load_all(text)]
    for section in sections:
        our = section.get("our", {}).get("default", {})
        for name in our.keys() - {"yours"}:
            del our[name]
    return yaml.safe_dump_all(sections, sort_keys=False).encode()


def lay_down_template(folder: Path) -> None:
    """Make `copier.yml` and `template/` in `folder` those of the working tree."""
    for path in template_files():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(template_file(path))
        target.chmod((ROOT / path).stat().st_mode & 0o777)


def copier(command: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Plain Copier's command line, trusting nothing."""
    settings = {"COPIER_SETTINGS_PATH": os.devnull, "COPIER_CACHE_DIR": str(cwd / ".copier-cache")}
    return attempt(
        [sys.executable, "-m", "copier", command, "--defaults", *arguments],
        cwd,
        {**os.environ, **settings},
    )


def copy(template: Path, target: Path, ref: str = "HEAD", **answers: str) -> Path:
    """A committed service rendered from `ref` of `template` by plain Copier."""
    data = [word for name, value in answers.items() for word in ("--data", f"{name}={value}")]
    done = copier("copy", "--vcs-ref", ref, *data, template, target, cwd=target.parent)
    assert done.returncode == 0, done.stdout
    commit_all(target, "rendered")
    return target


def update(service: Path, ref: str = "HEAD") -> str:
    """What plain Copier said while it updated the committed `service` to `ref` of its template."""
    done = copier("update", "--vcs-ref", ref, service, cwd=service.parent)
    assert done.returncode == 0, done.stdout
    return done.stdout


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a working tree that git does not ignore."""
    listed = git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return {
        path: (folder / path).read_bytes()
        for path in listed.split("\0")
        if (folder / path).is_file()
    }


def is_yours(path: str) -> bool:
    """Whether the team owns `path`, by the one list in `copier.yml`."""
    return pathspec.GitIgnoreSpec.from_lines(YOURS).match_file(path)


def managed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if not is_yours(path)}


def yours(files: Iterable[str]) -> set[str]:
    return {path for path in files if is_yours(path)}
