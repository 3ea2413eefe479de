"""What a write to a working tree has to remember so that it can be undone, by itself or by the next command.

Knows the disk; knows nothing of git, and nothing of why files move.
"""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

_ENDINGS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass(frozen=True, slots=True)
class Journal:
    """Which files move away and which come in their place, each with its fingerprint, and which folders are made."""

    top: str
    old: Mapping[str, str]
    new: Mapping[str, str]
    made: tuple[str, ...]
    index: str
    """Digest of the index that says it is done."""


def fingerprint(path: Path) -> str:
    """Kind, mode and contents of what is at `path` in one word; empty when nothing is."""
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
    """Of what is in `file`; empty without one."""
    try:
        return sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def write_down(journal: Journal, room: Path) -> None:
    """Keep `journal` in the folder `room`, whole or not at all."""
    draft = room / "journal.draft"
    fields: Mapping[str, object] = {name: getattr(journal, name) for name in Journal.__slots__}
    with draft.open("w", encoding="ascii") as file:
        # Names that are no UTF-8 are surrogates, which ASCII JSON keeps.
        json.dump(fields, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(room / "journal.json")


def read(room: Path) -> Journal | None:
    """The journal in the folder `room`, if there is one."""
    try:
        said = json.loads((room / "journal.json").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    return Journal(
        top=said["top"],
        old=said["old"],
        new=said["new"],
        made=tuple(said["made"]),
        index=said["index"],
    )


def has_moved_all(room: Path, journal: Journal) -> bool:
    """Whether every old file is away, in `room`, and every new one in its place."""
    left = any(os.path.lexists(room / "new" / path) for path in journal.new)
    return not left and all(os.path.lexists(room / "old" / path) for path in journal.old)


def undo(room: Path, journal: Journal) -> tuple[str, ...]:
    """Bring back what was. Can be repeated: what is where it belongs already is left there.

    A file that is neither the old nor the new one is somebody's work, saved since: it is kept beside, with
    `.dockyard-kept` after its name. Gives the names of these.
    """
    top = Path(journal.top)
    kept = []
    with uninterrupted():
        for path, laid_out in journal.new.items():
            if not os.path.lexists(room / "new" / path):
                found = fingerprint(top / path)
                if found == laid_out:
                    rename(top / path, room / "new" / path)
                elif found not in {"", journal.old.get(path)}:
                    kept.append(_kept(top / path))
        for folder in journal.made:
            with suppress(OSError):
                Path(folder).rmdir()
        for path, before in journal.old.items():
            if os.path.lexists(room / "old" / path):
                kept += map(_kept, _in_the_way(top, path, before))
                rename(room / "old" / path, top / path)
    return tuple(str(each.relative_to(top)) for each in kept)


def _in_the_way(top: Path, path: str, before: str) -> Iterator[Path]:
    """What is where the file `path` belongs, or a folder of it, and is not that."""
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


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that end a process wait until this is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
