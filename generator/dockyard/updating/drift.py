"""Drift: how the managed files of a service differ from the recorded render, as list and patch.

Looks at the files as they lie on the disk, committed or not. Knows the recorded version alone.
"""

import os
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path, PurePosixPath

from dockyard.errors import DockyardError
from dockyard.programs import git
from dockyard.programs.tree import Entries, Entry
from dockyard.rendering.render import render_tree
from dockyard.rendering.template import Template
from dockyard.service import Service
from dockyard.updating.merge import owned
from dockyard.updating.scratch_repository import ScratchRepository


class NotManaged(DockyardError):
    """The recorded version of the template does not manage the path, so it cannot be restored."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is no managed file of this service: it is the team's, "
            "or the recorded version does not have it. "
            "Name a file that `dockyard diff` shows, or a folder with some."
        )


class How(StrEnum):
    """How a file drifted."""

    MODIFIED = "modified"
    DELETED = "deleted"
    MODE = "mode"
    """Its contents are the render's, its mode is not."""


@dataclass(frozen=True, slots=True)
class Drifted:
    """One managed file that differs from the render."""

    path: str
    how: How


@dataclass(frozen=True, slots=True)
class Drift:
    """Managed files as the render has them, and those of them that the service has."""

    rendered: Entries
    present: Entries
    files: tuple[Drifted, ...]


def drift(scratch: ScratchRepository, service: Service, recorded: Template) -> Drift:
    """The drift of `service` from the version `recorded` that rendered it.

    Raises what `render.render_tree` raises.
    """
    render = render_tree(recorded, service.recorded, service.root.name)
    is_yours = owned(recorded.yours)
    rendered = {
        path: entry
        for path, entry in scratch.entries(render.tree).items()
        if path != service.recorded.file and not is_yours(path)
    }
    present = (
        _on_disk(scratch, service, rendered)
        if service.is_checked_out
        else {
            path: entry for path, entry in scratch.entries(service.tree).items() if path in rendered
        }
    )
    files = tuple(
        Drifted(path, how)
        for path, entry in rendered.items()
        if (how := _how(entry, present.get(path))) is not None
    )
    return Drift(rendered, present, files)


def patch(
    scratch: ScratchRepository,
    before: Entries,
    after: Entries,
    *,
    colour: bool = False,
    folder: str = "",
) -> bytes:
    """The patch that turns `before` into `after`, as `git diff` shows it; empty without a change.

    Its paths begin with `folder`.
    """
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    scratch.need(files[path] for files in (before, after) for path in changed & files.keys())
    trees = [scratch.write(files) for files in (before, after)]
    below = f"{folder}/" if folder else ""
    prefixes = (f"--src-prefix=a/{below}", f"--dst-prefix=b/{below}")
    # For `git apply` and `patch -p1` alike, which knows no renames.
    form = ("-r", "-p", "--binary", "--full-index", "--no-renames", "--unified=3")
    tint = f"--color={'always' if colour else 'never'}"
    return git.output(
        "diff-tree", *form, *prefixes, tint, *trees, folder=scratch.folder, env=scratch.env
    )


def chosen(found: Drift, names: Collection[str]) -> list[str]:
    """The drifted files among `names`, which are files or folders; without a name all of them.

    Raises NotManaged for another path.
    """
    wanted = []
    for name in names or ["."]:
        folder = "" if name == "." else f"{name}/"
        if not any(path == name or path.startswith(folder) for path in found.rendered):
            raise NotManaged(name)
        wanted += [
            file.path for file in found.files if file.path == name or file.path.startswith(folder)
        ]
    return list(dict.fromkeys(wanted))


def _how(rendered: Entry, present: Entry | None) -> How | None:
    if present is None:
        return How.DELETED
    if present == rendered:
        return None
    return How.MODE if present.oid == rendered.oid else How.MODIFIED


def _on_disk(scratch: ScratchRepository, service: Service, paths: Collection[str]) -> Entries:
    """The files of `paths` that lie in the service and are not ignored.

    Their git objects go to the scratch repository. No other file is read: it may be large, and need
    not be readable.
    """
    index = scratch.folder / "index"
    with suppress(FileNotFoundError):
        shutil.copy(service.git_dir / "index", index)
    env = git.environment() | {
        "GIT_INDEX_FILE": str(index),
        "GIT_OBJECT_DIRECTORY": str(scratch.folder / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(str(service.objects)),
    }
    known = set(git.run("ls-files", "-z", folder=service.root, env=env).split("\0"))
    found = _found(service, paths, known)
    how = ("--add", "--remove", "--ignore-skip-worktree-entries", "-z", "--stdin")
    git.run(
        *git.WITHOUT_HOOKS, "update-index", *how, folder=service.root, env=env, stdin=_listed(found)
    )
    listed = git.run("ls-files", "--stage", "-z", folder=service.root, env=env).split("\0")[:-1]
    return {path: entry for path, entry in map(_staged, listed) if path in found}


def _found(service: Service, paths: Collection[str], known: Collection[str]) -> set[str]:
    """The paths that are `known` to git, or that `git add` would take."""

    @cache
    def bars(folder: PurePosixPath) -> bool:
        return str(folder) in known or (service.root / folder).is_symlink()

    within = {path for path in paths if not any(map(bars, PurePosixPath(path).parents))}
    unknown = [path for path in within if path not in known and _is_file(service.root / path)]
    if unknown:
        told = git.output(
            "check-ignore",
            "-z",
            "--stdin",
            folder=service.root,
            stdin=_listed(unknown),
            good=(0, 1),
        )
        unknown = [path for path in unknown if path not in os.fsdecode(told).split("\0")]
    return {path for path in within if path in known}.union(unknown)


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _listed(paths: Iterable[str]) -> bytes:
    return os.fsencode("".join(f"{path}\0" for path in paths))


def _staged(line: str) -> tuple[str, Entry]:
    meta, _, path = line.partition("\t")
    mode, oid, _ = meta.split(" ")
    return path, Entry(mode, oid)


def _quoted(path: str) -> str:
    """`path` as an item of git's list of alternates."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
