"""Writes a result into the working tree and the index of a service: all of it, or nothing.

New contents are first laid out inside the git folder, where a full disk or a signal does no harm. Then files are only
renamed, old ones away and new ones in, while git's own `index.lock` is held; replacing the index by that lock is the
moment at which it is done. A journal lets the next command undo what a killed process left. Knows git and the disk;
knows nothing of templates or merges.
"""

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from dockyard import git
from dockyard.errors import CannotApply, InTheWay, Occupied
from dockyard.service import Service
from dockyard.tree import Entries, Entry

_OURS = b"dockyard is at work\n"
_ENDINGS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one path, relative to the repository's top."""

    path: str
    old: Entry | None
    new: Entry | None


@dataclass(frozen=True, slots=True)
class _Place:
    root: Path
    """The service."""
    repository: Path
    """The working tree's top."""
    git_dir: Path


@dataclass(frozen=True, slots=True)
class _Journal:
    """What is needed to undo: which paths move, which folders are made, and the index that says it is done."""

    top: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    made: tuple[str, ...]
    index: str


def changes(service: Service, before: Entries, after: Entries) -> list[Change]:
    """What turns the service's files `before` into `after`."""
    return [
        Change(f"{service.prefix}{path}", before.get(path), after.get(path))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


def write(service: Service, wanted: Collection[Change], stages: Iterable[tuple[str, int, Entry]] = ()) -> None:
    """Make the changes `wanted` in the working tree and stage them; `stages` are the sides of conflicts, for the index.

    Paths in `stages` are relative to the service. The objects must be in the service's repository, and what is there
    of the changed files must be as committed. Raises InTheWay, Occupied when another process works here, CannotApply;
    then, and when it is interrupted, everything is as it was.
    """
    _refuse_unknown_files(service.repository, wanted)
    with _alone(_Place(service.root, service.repository, service.git_dir)) as room:
        try:
            _write(service, room, wanted, stages)
        except OSError as error:
            raise CannotApply(service.root, error.strerror or str(error)) from error
        except git.GitFailed as error:
            raise CannotApply(service.root, error.reason) from error


def _write(service: Service, room: Path, wanted: Collection[Change], stages: Iterable[tuple[str, int, Entry]]) -> None:
    index = service.git_dir / "index"
    lock = _take_index_lock(service, room)
    try:
        journal = _laid_out(service, room, wanted, stages, lock)
    except BaseException:
        lock.unlink(missing_ok=True)
        _clear(room)
        raise
    try:
        _move(room, journal)
        lock.replace(index)
    except BaseException:
        # A signal may have come after the last step. Where undoing fails, the journal stays for the next command.
        if _digest(index) != journal.index:
            _undo(room, journal)
            lock.unlink(missing_ok=True)
        _clear(room)
        raise
    _clear(room)


def recover(folder: Path) -> bool:
    """Undo what a killed process left half done in the service in `folder`; whether there was any.

    Needs no answers file, which may be among what is missing. Raises Occupied when that process is still at work,
    CannotApply when the disk refuses.
    """
    if not _may_have_been_here(folder):
        return False
    place = _place(folder)
    if place is None or not _room(place).exists():
        return False
    with _alone(place) as room:
        journal = _read(room)
        is_half_done = journal is not None and _digest(place.git_dir / "index") != journal.index
        if journal is not None and is_half_done:
            _undo(room, journal)
        lock = place.git_dir / "index.lock"
        # Ours says so at first, then it is the new index; git's own is left alone.
        if _digest(lock) in {sha256(_OURS).hexdigest(), journal.index if journal else None}:
            lock.unlink()
        _clear(room)
        return is_half_done


def _may_have_been_here(folder: Path) -> bool:
    """False when surely nothing is left of another process; spares asking git where its folder is."""
    for parent in (folder, *folder.parents):
        if (parent / ".git").is_dir():
            return (parent / ".git/dockyard").exists() or (parent / ".dockyard-update").exists()
        if (parent / ".git").exists():
            return True
    return False


def _place(folder: Path) -> _Place | None:
    try:
        told = git.run("rev-parse", "--path-format=absolute", "--show-toplevel", "--git-dir", folder=folder)
    except git.GitFailed:
        return None
    top, git_dir = told.split("\n")[:2]
    return _Place(folder, Path(top), Path(git_dir))


def _room(place: _Place) -> Path:
    """The folder for the work: where files can be renamed into the working tree, so on the same disk."""
    is_same_disk = place.git_dir.stat().st_dev == place.repository.stat().st_dev
    return place.git_dir / "dockyard" if is_same_disk else place.repository / ".dockyard-update"


@contextmanager
def _alone(place: _Place) -> Iterator[Path]:
    """The folder for the work, held against other processes of Dockyard."""
    room = _room(place)
    try:
        with (place.git_dir / "dockyard.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Occupied(place.root, "another dockyard is at work there") from error
            room.mkdir(exist_ok=True)
            yield room
    except OSError as error:
        raise CannotApply(place.root, error.strerror or str(error)) from error


def _take_index_lock(service: Service, room: Path) -> Path:
    path = service.git_dir / "index.lock"
    try:
        with path.open("xb", buffering=0) as lock:
            lock.write(_OURS)
    except FileExistsError as error:
        _clear(room)
        raise Occupied(service.root, f"git is at work there, or was killed and left {path}") from error
    return path


def _refuse_unknown_files(top: Path, wanted: Collection[Change]) -> None:
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


def _is_emptied(path: Path, top: Path, known: Collection[str]) -> bool:
    """Whether `path` is a folder of which every file is among those that go away."""
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


def _laid_out(
    service: Service,
    room: Path,
    wanted: Collection[Change],
    stages: Iterable[tuple[str, int, Entry]],
    lock: Path,
) -> _Journal:
    """Put new contents, the new index and the journal into `room`; nothing else is touched."""
    index = room / "index"
    lines = [f"0 {'0' * 40}\t{change.path}\0" for change in wanted]
    lines += [f"{change.new.mode} {change.new.oid}\t{change.path}\0" for change in wanted if change.new]
    # Unlike Dockyard's other work this is the user's checkout: line endings and filters are as they set them.
    env = git.environment() | {"GIT_INDEX_FILE": str(index)}
    shutil.copy(service.git_dir / "index", index)
    git.run("update-index", "-z", "--index-info", folder=service.repository, env=env, stdin=os.fsencode("".join(lines)))
    new = [change.path for change in wanted if change.new is not None]
    git.run(
        *("checkout-index", "-z", "--stdin", "--force", f"--prefix={room / 'new'}/"),
        folder=service.repository,
        env=env,
        stdin=os.fsencode("".join(f"{path}\0" for path in new)),
    )
    sides = [(f"{service.prefix}{path}", number, entry) for path, number, entry in stages]
    lines = [f"0 {'0' * 40}\t{path}\0" for path in dict.fromkeys(path for path, _, _ in sides)]
    lines += [f"{entry.mode} {entry.oid} {number}\t{path}\0" for path, number, entry in sides]
    git.run("update-index", "-z", "--index-info", folder=service.repository, env=env, stdin=os.fsencode("".join(lines)))
    top = service.repository
    parents = {parent for path in new for parent in (top / path).parents if top in parent.parents}
    journal = _Journal(
        top=str(top),
        old=tuple(change.path for change in wanted if change.old is not None and os.path.lexists(top / change.path)),
        # A submodule has no contents to lay out.
        new=tuple(path for path in new if os.path.lexists(room / "new" / path)),
        made=tuple(str(parent) for parent in sorted(parents, reverse=True) if not parent.is_dir()),
        index=_digest(index),
    )
    _write_down(journal, room)
    index.replace(lock)
    return journal


def _move(room: Path, journal: _Journal) -> None:
    top = Path(journal.top)
    for path in journal.old:
        _rename(top / path, room / "old" / path)
        _drop_empty(top / path, top)
    for path in journal.new:
        _rename(room / "new" / path, top / path)


def _undo(room: Path, journal: _Journal) -> None:
    """Bring back what was. Can be repeated: what is where it belongs already is left there."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        top = Path(journal.top)
        for path in journal.new:
            is_placed = not os.path.lexists(room / "new" / path)
            if is_placed and os.path.lexists(top / path):
                _rename(top / path, room / "new" / path)
        for folder in journal.made:
            with suppress(OSError):
                Path(folder).rmdir()
        for path in journal.old:
            if os.path.lexists(room / "old" / path):
                _rename(room / "old" / path, top / path)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _rename(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _drop_empty(path: Path, top: Path) -> None:
    for folder in path.parents:
        if folder == top or any(folder.iterdir()):
            return
        folder.rmdir()


def _write_down(journal: _Journal, room: Path) -> None:
    draft = room / "journal.draft"
    fields: Mapping[str, object] = {name: getattr(journal, name) for name in _Journal.__slots__}
    with draft.open("w", encoding="ascii") as file:
        # Names that are no UTF-8 are surrogates, which ASCII JSON keeps.
        json.dump(fields, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(room / "journal.json")


def _read(room: Path) -> _Journal | None:
    try:
        said = json.loads((room / "journal.json").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    paths = {name: tuple(said[name]) for name in ("old", "new", "made")}
    return _Journal(top=said["top"], index=said["index"], **paths)


def _digest(file: Path) -> str:
    try:
        return sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def _clear(room: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        # First: without it nobody takes the rest for something to undo.
        (room / "journal.json").unlink(missing_ok=True)
        shutil.rmtree(room, ignore_errors=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
