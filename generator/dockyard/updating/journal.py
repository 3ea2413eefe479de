"""What a write to a working tree remembers, so that it or the next command can undo the write.

Knows the disk; knows nothing of git, and nothing of why files move.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from dockyard.programs.scratch import write_whole
from dockyard.programs.signals import uninterrupted


@dataclass(frozen=True, slots=True)
class Journal:
    """Files that go and files that come, each with its fingerprint, and folders that are made."""

    top: str
    old: Mapping[str, str]
    new: Mapping[str, str]
    made: tuple[str, ...]
    index: str
    """Digest of the index that marks the write as done."""


def fingerprint(path: Path) -> str:
    """Kind, mode and contents of what is at `path`, in one line; empty if nothing is."""
    if path.is_symlink():
        return f"link {sha256(os.fsencode(path.readlink())).hexdigest()}"
    if path.is_dir():
        return "folder"
    return (
        f"{'run' if os.access(path, os.X_OK) else 'file'} {found}"
        if (found := digest(path))
        else ""
    )


def digest(file: Path) -> str:
    """The digest of what is in `file`; empty without one."""
    try:
        return sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def write_down(journal: Journal, workspace: Path) -> None:
    """Keep `journal` in the folder `workspace`, whole or not at all."""
    fields: Mapping[str, object] = {name: getattr(journal, name) for name in Journal.__slots__}
    # Names that are not UTF-8 are surrogates, which JSON in ASCII keeps.
    write_whole(workspace / "journal.json", json.dumps(fields).encode("ascii"))


def read(workspace: Path) -> Journal | None:
    """The journal in the folder `workspace`, if there is one."""
    try:
        said = json.loads((workspace / "journal.json").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    return Journal(
        top=said["top"],
        old=said["old"],
        new=said["new"],
        made=tuple(said["made"]),
        index=said["index"],
    )


def has_moved_all(workspace: Path, journal: Journal) -> bool:
    """Whether every old file is away, in `workspace`, and every new one in its place."""
    left = any(os.path.lexists(workspace / "new" / path) for path in journal.new)
    return not left and all(os.path.lexists(workspace / "old" / path) for path in journal.old)


def undo(workspace: Path, journal: Journal) -> tuple[str, ...]:
    """Bring back what was. Can be repeated: a file that is in its place already stays there.

    A file that is neither the old nor the new one is work that somebody saved since. It is kept
    beside, with `.dockyard-kept` after its name. Gives the names of these files.
    """
    top = Path(journal.top)
    kept = []
    with uninterrupted():
        for path, laid_out in journal.new.items():
            if not os.path.lexists(workspace / "new" / path):
                found = fingerprint(top / path)
                if found == laid_out:
                    rename(top / path, workspace / "new" / path)
                elif found not in {"", journal.old.get(path)}:
                    kept.append(_kept(top / path))
        for folder in journal.made:
            with suppress(OSError):
                Path(folder).rmdir()
        for path, before in journal.old.items():
            if os.path.lexists(workspace / "old" / path):
                kept += map(_kept, _in_the_way(top, path, before))
                rename(workspace / "old" / path, top / path)
    return tuple(str(each.relative_to(top)) for each in kept)


def _in_the_way(top: Path, path: str, before: str) -> Iterator[Path]:
    """What is in the place of the file `path`, or of a folder above it."""
    for folder in reversed((top / path).parents):
        if (
            top in folder.parents
            and os.path.lexists(folder)
            and (folder.is_symlink() or not folder.is_dir())
        ):
            yield folder
            return
    if fingerprint(top / path) not in {"", before} or (top / path).is_dir():
        yield top / path


def _kept(path: Path) -> Path:
    """Where `path` is now: beside its place."""
    name, number = path.with_name(f"{path.name}.dockyard-kept"), 1
    while os.path.lexists(name):
        number += 1
        name = path.with_name(f"{path.name}.dockyard-kept-{number}")
    path.rename(name)
    return name


def rename(source: Path, target: Path) -> None:
    """Move `source` to `target`, whose folders are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
