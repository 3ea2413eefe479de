"""Merges a newer render into a service: three synthetic commits, `git merge-tree`, no working tree.

Knows git trees and which paths are the team's; knows nothing of templates, Copier or what is done
with the result.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import NamedTuple

from pathspec import GitIgnoreSpec

from dockyard.programs import git
from dockyard.programs.tree import SUBMODULE, Entries, Entry
from dockyard.updating.scratch_repository import ScratchRepository

_CONTENTS = "CONFLICT (contents)"


class State(StrEnum):
    """What an update means for a path that the template has, or had."""

    CLEAN = "clean"
    """Managed, and already as the newer render has it."""
    CHANGED = "changed"
    """Managed, without drift: added, rewritten or removed by the update."""
    MERGED = "merged"
    """Changed by the template and by the service. The result has both changes."""
    DRIFTED = "drifted"
    """Changed by the service alone. It stays as it is."""
    DELETED = "deleted"
    """Deleted by the team, and not changed by the template. It stays away."""
    YOURS = "yours"
    """The team's. Not looked at."""
    SEEDED = "seeded"
    """The team's, and new in the template. Laid down this once."""
    CONFLICT = "conflict"
    """The template and the service both changed it; a person must resolve it."""


class Conflict(StrEnum):
    """Why a path cannot be merged."""

    CONTENT = "content"
    MODIFY_DELETE = "modify/delete"
    ADD_ADD = "add/add"
    RENAME = "rename"
    MODE = "mode"
    BINARY = "binary"
    FILE_FOLDER = "file/directory"
    SUBMODULE = "submodule"


class Stage(NamedTuple):
    """One side of a conflict, as the index keeps it.

    Side 1 is the old render, 2 the service, 3 the newer render.
    """

    path: str
    number: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class File:
    """What becomes of one path."""

    path: str
    state: State
    conflict: Conflict | None = None
    message: str = ""
    """What git says of the conflict."""
    is_part: bool = False
    """Whether another path stands for the conflict, as with a rename: the old name does."""


@dataclass(frozen=True, slots=True)
class Merge:
    """What comes out. A file in conflict is in the tree with markers, as git leaves it."""

    tree: str
    """Id of the service's tree after the update, in the scratch."""
    before: Entries
    after: Entries
    files: tuple[File, ...]
    stages: tuple[Stage, ...]

    @property
    def conflicts(self) -> tuple[File, ...]:
        """The files that a person has to look at."""
        return tuple(file for file in self.files if file.state is State.CONFLICT)

    @property
    def decisions(self) -> tuple[File, ...]:
        """The conflicts, each once, however many paths it has."""
        return tuple(file for file in self.conflicts if not file.is_part)


@dataclass(frozen=True, slots=True)
class Side:
    """A tree that meets another."""

    tree: str
    label: str
    """How conflict markers call it."""


def owned(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path is the team's, by the template's patterns."""
    spec = GitIgnoreSpec.from_lines(patterns)
    return lambda path: bool(spec.match_file(path))


def merge(
    scratch: ScratchRepository,
    base: str,
    new: Side,
    ours: Side,
    *,
    answers_file: str,
    is_yours: Callable[[str], bool],
) -> Merge:
    """Apply the change from the old render's tree `base` to the render `new` to the service `ours`.

    The team's files in the service stay untouched. A team's file that only `new` has is laid down.
    The answers file becomes the one of `new`. Raises GitFailed and CannotFetch.
    """
    old, newer, service = (scratch.entries(tree) for tree in (base, new.tree, ours.tree))
    seeds = {
        path: entry
        for path, entry in newer.items()
        if is_yours(path) and path not in old and path not in service
    }
    left = {path: entry for path, entry in old.items() if not is_yours(path)}
    right = {path: entry for path, entry in newer.items() if not is_yours(path)} | seeds
    # The team's files are the same on all three sides: out of the merge, and out of every rename.
    # If the template puts a folder in the place of one, or a file in the place of its folder, git
    # must see that.
    barred = _barred({*left, *right})
    team = {path: entry for path, entry in service.items() if is_yours(path) and not barred(path)}
    answers = {answers_file: service[answers_file]} if answers_file in service else {}
    left |= team | answers
    right |= team
    scratch.need(entry for path, entry in service.items() if left.get(path) != entry)
    merged = _merge_trees(scratch, left, new.label, right, ours)
    after = scratch.entries(merged.tree)
    files = _files(_Trees(old, newer, service, after), merged.conflicts, answers_file, is_yours)
    return Merge(merged.tree, service, after, tuple(files), merged.stages)


def _barred(paths: Collection[str]) -> Callable[[str], bool]:
    """Whether a path cannot be in one tree with `paths`: a file where another needs a folder."""
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    return lambda path: (
        path in folders or any(str(parent) in paths for parent in PurePosixPath(path).parents)
    )


class _Merged(NamedTuple):
    tree: str
    stages: tuple[Stage, ...]
    conflicts: Mapping[str, "_Told"]


class _Told(NamedTuple):
    """What git says of one path in conflict."""

    kind: Conflict
    message: str
    is_part: bool = False


def _merge_trees(
    scratch: ScratchRepository, left: Entries, label: str, right: Entries, ours: Side
) -> _Merged:
    scratch.commit(
        ("base", None, left),
        # The names are what conflict markers show.
        (label, "base", right),
        (ours.label, "base", ours.tree),
    )
    told = git.output(
        *("merge-tree", "--write-tree", "-z", "--messages", ours.label, label),
        folder=scratch.folder,
        env=scratch.env,
        good=(0, 1),
    )
    return _parsed(told)


def _parsed(told: bytes) -> _Merged:
    """The output of merge-tree: the tree, stages up to an empty field, then messages."""
    fields = iter(os.fsdecode(told).split("\0"))
    tree = next(fields).strip()
    stages = tuple(_stage(field) for field in iter(lambda: next(fields, ""), ""))
    conflicts: dict[str, _Told] = {}
    parts: dict[str, _Told] = {}
    for count in fields:
        if not count.strip():
            break
        paths = [next(fields) for _ in range(int(count))]
        kind, message = next(fields), next(fields).strip()
        found = _conflict(kind, [stage for stage in stages if stage.path == paths[0]])
        if found is not None:
            # Of several messages on one path the first says most.
            conflicts.setdefault(paths[0], _Told(found, message))
        if found is Conflict.RENAME:
            parts |= {path: _Told(found, message, is_part=True) for path in paths[1:]}
    for stage in stages:
        likely = parts.get(stage.path, _Told(Conflict.CONTENT, "both changed it"))
        conflicts.setdefault(stage.path, likely)
    return _Merged(tree, stages, conflicts)


def _stage(field: str) -> Stage:
    meta, _, path = field.partition("\t")
    mode, oid, number = meta.split(" ")
    return Stage(path, int(number), Entry(mode, oid))


def _conflict(kind: str, sides: Collection[Stage]) -> Conflict | None:
    """What `kind`, a field that no language changes, means for a path that has `sides`."""
    if "binary" in kind:
        return Conflict.BINARY
    if not kind.startswith("CONFLICT"):
        return None
    if kind == _CONTENTS:
        if any(side.entry.mode == SUBMODULE for side in sides):
            return Conflict.SUBMODULE
        return Conflict.ADD_ADD if {side.number for side in sides} == {2, 3} else Conflict.CONTENT
    likely = {
        "modify/delete": Conflict.MODIFY_DELETE,
        "rename": Conflict.RENAME,
        "distinct": Conflict.MODE,
        "file/directory": Conflict.FILE_FOLDER,
        "submodule": Conflict.SUBMODULE,
    }
    return next((conflict for word, conflict in likely.items() if word in kind), Conflict.CONTENT)


class _Trees(NamedTuple):
    old: Entries
    newer: Entries
    service: Entries
    after: Entries


def _files(
    trees: _Trees,
    conflicts: Mapping[str, _Told],
    answers_file: str,
    is_yours: Callable[[str], bool],
) -> Iterator[File]:
    for path in sorted({*trees.old, *trees.newer, *conflicts}):
        if path in conflicts:
            yield File(path, State.CONFLICT, *conflicts[path])
        elif path == answers_file:
            is_same = trees.after.get(path) == trees.service.get(path)
            yield File(path, State.CLEAN if is_same else State.CHANGED)
        elif is_yours(path):
            if (state := _of_the_team(path, trees)) is not None:
                yield File(path, state)
        else:
            yield File(path, _of_the_platform(*(tree.get(path) for tree in trees)))


def _of_the_team(path: str, trees: _Trees) -> State | None:
    if path in trees.service:
        return State.YOURS
    if path in trees.after:
        return State.SEEDED
    # A file that the newer version does not seed and the team does not have is nobody's.
    return State.DELETED if path in trees.newer else None


def _of_the_platform(
    old: Entry | None, newer: Entry | None, service: Entry | None, after: Entry | None
) -> State:
    if newer == old:
        if service == old:
            return State.CLEAN
        return State.DELETED if service is None else State.DRIFTED
    if after == service:
        return State.CLEAN
    return State.CHANGED if service == old and after == newer else State.MERGED
