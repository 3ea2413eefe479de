"""Writes a result into the working tree and the index of a service: all of it, or nothing.

New contents are first laid out inside the git folder, where a full disk or a signal does no harm. Then files are only
renamed, old ones away and new ones in, while git's own `index.lock` is held; replacing the index by that lock is the
moment at which it is done. A journal lets the next command undo what a killed process left. Knows git and the disk;
knows nothing of templates or merges.
"""

import fcntl
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from dockyard.hindrances import (
    CannotApply,
    DirtyService,
    HiddenChanges,
    InTheWay,
    MovedOn,
    Occupied,
    SavedMeanwhile,
)
from dockyard.programs import git
from dockyard.programs.tree import Entries, Entry, shown
from dockyard.service import Service, require_clean
from dockyard.updating.journal import (
    Journal,
    digest,
    fingerprint,
    has_moved_all,
    read,
    undo,
    uninterrupted,
    write_down,
)
from dockyard.updating.journal import rename as _rename

_OURS = b"dockyard is at work\n"
_Mark = tuple[int, ...]


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


def changes(service: Service, before: Entries, after: Entries) -> list[Change]:
    """What turns the service's files `before` into `after`."""
    return [
        Change(f"{service.prefix}{path}", before.get(path), after.get(path))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


def write(
    service: Service,
    wanted: Collection[Change],
    stages: Iterable[tuple[str, int, Entry]] = (),
    among: Collection[str] | None = None,
) -> None:
    """Make the changes `wanted` in the working tree and stage them; `stages` are the sides of conflicts, for the index.

    Paths in `stages` are relative to the service; the objects must be in its repository. What was committed or saved
    since `service` was opened is not written over: raises MovedOn, HiddenChanges and InTheWay, what `require_clean`
    raises (`among` is its), Occupied when another process works here, and CannotApply. Then, and when it is
    interrupted, everything is as it was.
    """
    _refuse_unknown_files(service.repository, wanted)
    with _alone(_Place(service.root, service.repository, service.git_dir)) as room:
        try:
            _write(service, room, wanted, stages, among)
        except OSError as error:
            raise CannotApply(service.root, error.strerror or str(error)) from error
        except git.GitFailed as error:
            raise CannotApply(service.root, error.reason) from error


def _write(
    service: Service,
    room: Path,
    wanted: Collection[Change],
    stages: Iterable[tuple[str, int, Entry]],
    among: Collection[str] | None,
) -> None:
    index = service.git_dir / "index"
    lock = _take_index_lock(service, room)
    try:
        _require_as_opened(service, among)
        seen = _seen_as_committed(service, room, wanted)
        journal = _laid_out(service, room, wanted, stages, lock)
    except BaseException:
        lock.unlink(missing_ok=True)
        _clear(room)
        raise
    try:
        _move(room, journal)
        saved = [path for path in journal.old if _mark(room / "old" / path) != seen.get(path)]
        if saved:
            raise DirtyService(service.root, len(saved))
        lock.replace(index)
    except BaseException as error:
        kept: tuple[str, ...] = ()
        # A signal may have come after the last step. Where undoing fails, the journal stays for the next command.
        if not _is_done(room, journal, lock):
            kept = undo(room, journal)
            lock.unlink(missing_ok=True)
        _clear(room)
        if kept:
            raise SavedMeanwhile(service.root, map(shown, kept)) from error
        raise
    _clear(room)


def recover(folder: Path) -> tuple[str, ...] | None:
    """Undo what a killed process left half done in the service in `folder`; None when there was nothing.

    Gives the names of files in which work that was saved since is kept, see `journal.undo`. Needs no answers file,
    which may be among what is missing. Raises Occupied when that process is still at work, CannotApply when the disk
    refuses.
    """
    if not _may_have_been_here(folder):
        return None
    place = _place(folder)
    if place is None or not _room(place).exists():
        return None
    with _alone(place) as room:
        journal, lock = read(room), place.git_dir / "index.lock"
        kept = (
            undo(room, journal)
            if journal is not None and not _is_done(room, journal, lock)
            else None
        )
        if _is_ours(lock, journal):
            lock.unlink()
        _clear(room)
        return kept


def _is_done(room: Path, journal: Journal, lock: Path) -> bool:
    """Whether the last step was taken. The index does not tell: git writes it anew whenever it looks at files."""
    return not _is_ours(lock, journal) and has_moved_all(room, journal)


def _is_ours(lock: Path, journal: Journal | None) -> bool:
    """Whether `lock` is not git's own: ours says so at first, then it is the new index."""
    return digest(lock) in {sha256(_OURS).hexdigest(), journal.index if journal else None}


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
        told = git.run(
            "rev-parse", "--path-format=absolute", "--show-toplevel", "--git-dir", folder=folder
        )
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
        raise Occupied(
            service.root, f"git is at work there, or was killed and left {path}"
        ) from error
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


def _require_as_opened(service: Service, among: Collection[str] | None) -> None:
    """Raises MovedOn and what `require_clean` raises. Planning took a while, in which people go on working."""
    if git.run("rev-parse", "HEAD", folder=service.root).strip() != service.head:
        raise MovedOn(service.root)
    require_clean(service, among)


def _seen_as_committed(
    service: Service, room: Path, wanted: Collection[Change]
) -> dict[str, _Mark]:
    """A mark of each file that goes away, by which it is known again. Raises HiddenChanges when one has changes.

    `git status` cannot see those of a file with the bit skip-worktree or assume-unchanged: an index of these files
    alone has no such bits, and all else that git heeds when it compares.
    """
    top = service.repository
    old = {
        change.path: change.old
        for change in wanted
        if change.old and os.path.lexists(top / change.path)
    }
    seen = {path: _mark(top / path) for path in old}
    env = git.environment() | {"GIT_INDEX_FILE": str(room / "old-index")}
    lines = "".join(f"{entry.mode} {entry.oid}\t{path}\0" for path, entry in old.items())
    config = ("-c", "core.fsmonitor=false", "-c", "core.splitIndex=false")
    git.run(
        *config, "update-index", "-z", "--index-info", folder=top, env=env, stdin=os.fsencode(lines)
    )
    changed = git.run(*config, "ls-files", "-z", "--modified", folder=top, env=env).split("\0")[:-1]
    if changed:
        raise HiddenChanges(changed)
    return seen


def _mark(path: Path) -> _Mark:
    """What stays the same when a file is renamed, and does not when it is written."""
    found = path.lstat()
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns


def _laid_out(
    service: Service,
    room: Path,
    wanted: Collection[Change],
    stages: Iterable[tuple[str, int, Entry]],
    lock: Path,
) -> Journal:
    """Put new contents, the new index and the journal into `room`; nothing else is touched."""
    index = room / "index"
    lines = [f"0 {'0' * 40}\t{change.path}\0" for change in wanted]
    lines += [
        f"{change.new.mode} {change.new.oid}\t{change.path}\0" for change in wanted if change.new
    ]
    # Unlike Dockyard's other work this is the user's checkout: line endings and filters are as they set them.
    env = git.environment() | {"GIT_INDEX_FILE": str(index)}
    # Without one, as git takes it, nothing is staged.
    with suppress(FileNotFoundError):
        shutil.copy(service.git_dir / "index", index)
    git.run(
        "update-index",
        "-z",
        "--index-info",
        folder=service.repository,
        env=env,
        stdin=os.fsencode("".join(lines)),
    )
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
    git.run(
        "update-index",
        "-z",
        "--index-info",
        folder=service.repository,
        env=env,
        stdin=os.fsencode("".join(lines)),
    )
    top = service.repository
    parents = {parent for path in new for parent in (top / path).parents if top in parent.parents}
    old = [
        change.path
        for change in wanted
        if change.old is not None and os.path.lexists(top / change.path)
    ]
    journal = Journal(
        top=str(top),
        old={path: fingerprint(top / path) for path in old},
        # A submodule has no contents to lay out.
        new={
            path: fingerprint(room / "new" / path)
            for path in new
            if os.path.lexists(room / "new" / path)
        },
        made=tuple(str(parent) for parent in sorted(parents, reverse=True) if not parent.is_dir()),
        index=digest(index),
    )
    write_down(journal, room)
    index.replace(lock)
    return journal


def _move(room: Path, journal: Journal) -> None:
    top = Path(journal.top)
    for path in journal.old:
        _rename(top / path, room / "old" / path)
        _drop_empty(top / path, top)
    for path in journal.new:
        if os.path.lexists(top / path):
            raise InTheWay([path])
        _rename(room / "new" / path, top / path)


def _drop_empty(path: Path, top: Path) -> None:
    for folder in path.parents:
        if folder == top or any(folder.iterdir()):
            return
        folder.rmdir()


def _clear(room: Path) -> None:
    with uninterrupted():
        # First: without it nobody takes the rest for something to undo.
        (room / "journal.json").unlink(missing_ok=True)
        shutil.rmtree(room, ignore_errors=True)
