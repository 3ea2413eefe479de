"""Writes a result into the working tree and the index of a service: all of it, or nothing.

New contents are first laid out inside the git folder, where a full disk or a signal does no harm.
Then files are only renamed, old ones away and new ones in, under git's own `index.lock`. The write
is done at the moment when that lock replaces the index. A journal lets the next command undo what
a killed process left. Knows git and the disk; knows nothing of templates or merges.
"""

import fcntl
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from dockyard.errors import CannotApply, DirtyService, InTheWay, Occupied, SavedMeanwhile
from dockyard.programs import git
from dockyard.programs.signals import uninterrupted
from dockyard.programs.tree import Entry, shown
from dockyard.service import Service
from dockyard.updating.changes import (
    Change,
    mark,
    refuse_unknown_files,
    require_as_opened,
    seen_as_committed,
)
from dockyard.updating.journal import (
    Journal,
    digest,
    fingerprint,
    has_moved_all,
    read,
    undo,
    write_down,
)
from dockyard.updating.journal import rename as _rename

_OURS = b"dockyard is at work\n"


@dataclass(frozen=True, slots=True)
class _Place:
    root: Path
    """The service."""
    repository: Path
    """The working tree's top."""
    git_dir: Path


def write(
    service: Service,
    wanted: Collection[Change],
    stages: Iterable[tuple[str, int, Entry]] = (),
    among: Collection[str] | None = None,
) -> None:
    """Make the changes `wanted` in the working tree and stage them.

    `stages` are the sides of conflicts, for the index; their paths are relative to the service. All
    objects must be in its repository. Work that was committed or saved since `service` was opened
    is not lost: raises MovedOn, HiddenChanges, InTheWay and what `require_clean` raises (`among` is
    its argument). Raises Occupied if another process works here, and CannotApply. After an error
    or an interrupt everything is as it was.
    """
    refuse_unknown_files(service.repository, wanted)
    with _exclusively(_Place(service.root, service.repository, service.git_dir)) as workspace:
        try:
            _write(service, workspace, wanted, stages, among)
        except OSError as error:
            raise CannotApply(service.root, error.strerror or str(error)) from error
        except git.GitFailed as error:
            raise CannotApply(service.root, error.reason) from error


def _write(
    service: Service,
    workspace: Path,
    wanted: Collection[Change],
    stages: Iterable[tuple[str, int, Entry]],
    among: Collection[str] | None,
) -> None:
    index = service.git_dir / "index"
    lock = _take_index_lock(service, workspace)
    try:
        require_as_opened(service, among)
        seen = seen_as_committed(service, workspace / "old-index", wanted)
        journal = _laid_out(service, workspace, wanted, stages, lock)
    except BaseException:
        lock.unlink(missing_ok=True)
        _clear(workspace)
        raise
    try:
        _move(workspace, journal)
        saved = [path for path in journal.old if mark(workspace / "old" / path) != seen.get(path)]
        if saved:
            raise DirtyService(service.root, len(saved))
        lock.replace(index)
    except BaseException as error:
        kept: tuple[str, ...] = ()
        # A signal may come after the last step. If undoing fails, the next command has the journal.
        if not _is_done(workspace, journal, lock):
            kept = undo(workspace, journal)
            lock.unlink(missing_ok=True)
        _clear(workspace)
        if kept:
            raise SavedMeanwhile(service.root, map(shown, kept)) from error
        raise
    _clear(workspace)


def recover(folder: Path) -> tuple[str, ...] | None:
    """Undo what a killed process left half done in the service in `folder`; None if nothing.

    Gives the names of files that keep work saved since, see `journal.undo`. Needs no answers file:
    it may be among what is missing. Raises Occupied if that process is still at work, CannotApply
    if the disk refuses.
    """
    if not _may_have_been_here(folder):
        return None
    place = _place(folder)
    if place is None or not _workspace(place).exists():
        return None
    with _exclusively(place) as workspace:
        journal, lock = read(workspace), place.git_dir / "index.lock"
        is_half_done = journal is not None and not _is_done(workspace, journal, lock)
        kept = undo(workspace, journal) if journal is not None and is_half_done else None
        if _is_ours(lock, journal):
            lock.unlink()
        _clear(workspace)
        return kept


def _is_done(workspace: Path, journal: Journal, lock: Path) -> bool:
    """Whether the last step was taken. The index does not tell: git rewrites it at every look."""
    return not _is_ours(lock, journal) and has_moved_all(workspace, journal)


def _is_ours(lock: Path, journal: Journal | None) -> bool:
    """Whether `lock` is not git's own. Ours first says so, and is then the new index."""
    return digest(lock) in {sha256(_OURS).hexdigest(), journal.index if journal else None}


def _may_have_been_here(folder: Path) -> bool:
    """False if surely no process left anything. Spares asking git where its folder is."""
    for parent in (folder, *folder.parents):
        if (parent / ".git").is_dir():
            return (parent / ".git/dockyard").exists() or (parent / ".dockyard-update").exists()
        if (parent / ".git").exists():
            return True
    return False


def _place(folder: Path) -> _Place | None:
    where = ("rev-parse", "--path-format=absolute", "--show-toplevel", "--git-dir")
    try:
        top, git_dir = git.run(*where, folder=folder).split("\n")[:2]
    except git.GitFailed:
        return None
    return _Place(folder, Path(top), Path(git_dir))


def _workspace(place: _Place) -> Path:
    """The folder for the work: on the working tree's disk, so that files can be renamed into it."""
    is_same_disk = place.git_dir.stat().st_dev == place.repository.stat().st_dev
    return place.git_dir / "dockyard" if is_same_disk else place.repository / ".dockyard-update"


@contextmanager
def _exclusively(place: _Place) -> Iterator[Path]:
    """The folder for the work, with other processes of Dockyard locked out."""
    workspace = _workspace(place)
    try:
        with (place.git_dir / "dockyard.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Occupied(place.root, "another dockyard is at work there") from error
            workspace.mkdir(exist_ok=True)
            yield workspace
    except OSError as error:
        raise CannotApply(place.root, error.strerror or str(error)) from error


def _take_index_lock(service: Service, workspace: Path) -> Path:
    path = service.git_dir / "index.lock"
    try:
        with path.open("xb", buffering=0) as lock:
            lock.write(_OURS)
    except FileExistsError as error:
        _clear(workspace)
        raise Occupied(
            service.root, f"git is at work there, or was killed and left {path}"
        ) from error
    return path


def _laid_out(
    service: Service,
    workspace: Path,
    wanted: Collection[Change],
    stages: Iterable[tuple[str, int, Entry]],
    lock: Path,
) -> Journal:
    """Put new contents, the new index and the journal into `workspace`; touch nothing else."""
    top, index = service.repository, workspace / "index"
    new = [change.path for change in wanted if change.new is not None]
    # Without an index, as git takes it, nothing is staged.
    with suppress(FileNotFoundError):
        shutil.copy(service.git_dir / "index", index)
    _stage(service, index, _result(wanted))
    git.run(
        *("checkout-index", "-z", "--stdin", "--force", f"--prefix={workspace / 'new'}/"),
        folder=top,
        env=_users_checkout(index),
        stdin=os.fsencode("".join(f"{path}\0" for path in new)),
    )
    _stage(service, index, _sides(service, stages))
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
            path: fingerprint(workspace / "new" / path)
            for path in new
            if os.path.lexists(workspace / "new" / path)
        },
        made=tuple(str(parent) for parent in sorted(parents, reverse=True) if not parent.is_dir()),
        index=digest(index),
    )
    write_down(journal, workspace)
    index.replace(lock)
    return journal


def _users_checkout(index: Path) -> dict[str, str]:
    """Unlike Dockyard's other work: line endings and filters are as the user set them."""
    return git.environment() | {"GIT_INDEX_FILE": str(index)}


def _stage(service: Service, index: Path, lines: Iterable[str]) -> None:
    """Change `index` by `lines` in the language of `git update-index --index-info`."""
    git.run(
        *("update-index", "-z", "--index-info"),
        folder=service.repository,
        env=_users_checkout(index),
        stdin=os.fsencode("".join(f"{line}\0" for line in lines)),
    )


def _result(wanted: Collection[Change]) -> list[str]:
    gone = [_nothing_at(change.path) for change in wanted]
    return gone + [
        f"{change.new.mode} {change.new.oid}\t{change.path}" for change in wanted if change.new
    ]


def _sides(service: Service, stages: Iterable[tuple[str, int, Entry]]) -> list[str]:
    sides = [(f"{service.prefix}{path}", number, entry) for path, number, entry in stages]
    gone = [_nothing_at(path) for path in dict.fromkeys(path for path, _, _ in sides)]
    return gone + [f"{entry.mode} {entry.oid} {number}\t{path}" for path, number, entry in sides]


def _nothing_at(path: str) -> str:
    return f"0 {'0' * 40}\t{path}"


def _move(workspace: Path, journal: Journal) -> None:
    top = Path(journal.top)
    for path in journal.old:
        _rename(top / path, workspace / "old" / path)
        _drop_empty(top / path, top)
    for path in journal.new:
        if os.path.lexists(top / path):
            raise InTheWay([path])
        _rename(workspace / "new" / path, top / path)


def _drop_empty(path: Path, top: Path) -> None:
    for folder in path.parents:
        if folder == top or any(folder.iterdir()):
            return
        folder.rmdir()


def _clear(workspace: Path) -> None:
    with uninterrupted():
        # First: without the journal, nobody takes the rest for something to undo.
        (workspace / "journal.json").unlink(missing_ok=True)
        shutil.rmtree(workspace, ignore_errors=True)
