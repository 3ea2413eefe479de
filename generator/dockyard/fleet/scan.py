"""The services in a folder, and what else is there that somebody may miss.

Reads names, and the files by which a worktree says whose it is; runs no git.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_ANSWERS_FILE = re.compile(r"\.copier-answers(\..+)?\.ya?ml")
_NOT_SEARCHED = {"node_modules", "__pycache__", "venv"}
_DEEPEST = 6
"""How many folders deep a scan goes: group of repositories, repository, service in a monorepo."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A folder that is not looked at as a service."""

    path: Path
    why: str


def scan(folder: Path) -> Iterator[Path | LeftOut]:
    """Folders with an answers file in `folder`, itself included, in order; none within another.

    What is left out comes between them, with the reason.
    """
    unreadable: list[LeftOut] = []

    def note(error: OSError) -> None:
        unreadable.append(LeftOut(Path(error.filename), "it cannot be read"))

    repositories: list[Path] = []
    found: list[Path] = []
    for here, folders, files in os.walk(folder, onerror=note):
        path = Path(here)
        if any(_ANSWERS_FILE.fullmatch(file) for file in files):
            found.append(path)
            yield path
            folders.clear()
            continue
        if ".git" in folders or ".git" in files:
            repositories.append(path)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in _NOT_SEARCHED
        )
        yield from (LeftOut(path / name, "it is a link") for name in _links(path, folders))
        if folders and len(path.relative_to(folder).parts) >= _DEEPEST:
            yield LeftOut(path, f"folders in it are more than {_DEEPEST} deep")
            folders.clear()
    yield from unreadable
    for repository in repositories:
        if not any(path.is_relative_to(repository) for path in found):
            yield LeftOut(repository, "a repository without an answers file of Copier")


def once(paths: Iterable[Path | LeftOut]) -> Iterator[Path | LeftOut]:
    """`paths`, with each folder of a repository once, however many worktrees the repository has.

    The main worktree goes before the others.
    """
    items = list(paths)
    places = {path: _identity(path) for path in items if isinstance(path, Path)}
    chosen: dict[Path, Path] = {}
    for path in sorted(places, key=lambda path: not places[path].is_main):
        chosen.setdefault(places[path].where, path)
    for item in items:
        first = chosen[places[item].where] if isinstance(item, Path) else item
        if first == item:
            yield item
        elif isinstance(item, Path):
            yield LeftOut(item, f"it is the service of {first} again")


@dataclass(frozen=True, slots=True)
class _Identity:
    where: Path
    """The same for one folder in all worktrees of a repository."""
    is_main: bool


def _links(path: Path, folders: Iterable[str]) -> list[str]:
    return [name for name in folders if (path / name).is_symlink()]


def _identity(path: Path) -> _Identity:
    real = Path(os.path.realpath(path))
    for top in (real, *real.parents):
        pointer = top / ".git"
        if pointer.is_dir():
            return _Identity(pointer / real.relative_to(top), is_main=True)
        try:
            private = top / pointer.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
            common = (private / "commondir").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            if pointer.exists():
                break  # a submodule, or something broken: a service of its own
            continue
        shared = Path(os.path.realpath(private / common))
        return _Identity(shared / real.relative_to(top), is_main=False)
    return _Identity(real, is_main=True)
