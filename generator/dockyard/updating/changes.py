"""What changes in a service's working tree, and what must not be lost by it.

Looks at the disk and the index; writes nothing there. Knows git; knows nothing of templates.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dockyard.errors import HiddenChanges, InTheWay, MovedOn
from dockyard.programs import git
from dockyard.programs.tree import Entries, Entry
from dockyard.service import Service, require_clean

Mark = tuple[int, ...]
"""What stays the same if a file is renamed, and changes if it is written."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one path, relative to the repository's top."""

    path: str
    old: Entry | None
    new: Entry | None


def changes(service: Service, before: Entries, after: Entries) -> list[Change]:
    """What turns the service's files `before` into `after`."""
    return [
        Change(f"{service.prefix}{path}", before.get(path), after.get(path))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


def mark(path: Path) -> Mark:
    """The mark of the file at `path`."""
    found = path.lstat()
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns


def refuse_unknown_files(top: Path, wanted: Collection[Change]) -> None:
    """Raises InTheWay if a file that git does not know is where `wanted` would write.

    Ignored files count: a merge writes over them without a word.
    """
    known = {change.path for change in wanted if change.old is not None}
    found = []
    for change in wanted:
        if change.new is None:
            continue
        path = top / change.path
        if change.old is None and os.path.lexists(path) and not _is_emptied(path, top, known):
            found.append(change.path)
        found += [
            str(parent)
            for parent in PurePosixPath(change.path).parents
            if str(parent) not in known and _is_no_folder(top / parent)
        ]
    if found:
        raise InTheWay(sorted(set(found)))


def require_as_opened(service: Service, among: Collection[str] | None) -> None:
    """Raises MovedOn and what `require_clean` raises. People go on working while this plans."""
    if git.run("rev-parse", "HEAD", folder=service.root).strip() != service.head:
        raise MovedOn(service.root)
    require_clean(service, among)


def seen_as_committed(service: Service, index: Path, wanted: Collection[Change]) -> dict[str, Mark]:
    """The mark of each file that goes away. Raises HiddenChanges if one has changes.

    `git status` does not see changes of a file with the bit skip-worktree or assume-unchanged. The
    new file `index` is an index of these files alone: without such bits, but with everything else
    that git heeds when it compares.
    """
    top = service.repository
    old = {
        change.path: change.old
        for change in wanted
        if change.old and os.path.lexists(top / change.path)
    }
    seen = {path: mark(top / path) for path in old}
    env = git.environment() | {"GIT_INDEX_FILE": str(index)}
    lines = "".join(f"{entry.mode} {entry.oid}\t{path}\0" for path, entry in old.items())
    config = (*git.WITHOUT_HOOKS, "-c", "core.fsmonitor=false", "-c", "core.splitIndex=false")
    add = (*config, "update-index", "-z", "--index-info")
    git.run(*add, folder=top, env=env, stdin=os.fsencode(lines))
    changed = git.run(*config, "ls-files", "-z", "--modified", folder=top, env=env).split("\0")[:-1]
    if changed:
        raise HiddenChanges(changed)
    return seen


def _is_emptied(path: Path, top: Path, known: Collection[str]) -> bool:
    """Whether `path` is a folder whose files all go away."""
    return (
        path.is_dir()
        and not path.is_symlink()
        and all(
            Path(folder, file).relative_to(top).as_posix() in known
            for folder, _, files in os.walk(path)
            for file in files
        )
    )


def _is_no_folder(path: Path) -> bool:
    return os.path.lexists(path) and (path.is_symlink() or not path.is_dir())
