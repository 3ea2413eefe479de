"""The cache of renders: a git repository whose objects are checked before use, or made again.

Which tree is whose render is an entry beside it; `render` writes and checks the entries.

A cleaner of old files, a crash or a full disk may take any file of it. So nothing counts because it
is there: an object counts if its contents give its name. Knows git's objects; knows nothing of
templates.
"""

from pathlib import Path

from dockyard.programs import bare, git, loose
from dockyard.programs.cache import CannotCache, cache_folder

_whole: set[str] = set()
"""Objects that this process has found whole, with all that they refer to."""


def store() -> Path:
    """The bare repository of all renders, made or mended if need be. Raises CannotCache."""
    folder = cache_folder("renders") / "objects.git"
    if not bare.is_made(folder):
        try:
            bare.make(folder)
        except OSError as error:
            raise CannotCache(folder, error) from error
    return folder


def is_whole(tree: str) -> bool:
    """Whether the store has `tree` and all that it refers to, undamaged.

    A damaged object is deleted, because git does not write an object that it has.
    """
    repository = store()
    damaged, missing = _look(tree, repository / "objects")
    # Somebody may have packed the store. Then git itself tells.
    return not damaged and (not missing or _git_has(tree, repository))


def look_again() -> None:
    """Forget which objects were found whole."""
    _whole.clear()


def _look(tree: str, objects: Path) -> tuple[bool, bool]:
    """Whether an object is damaged, and whether one has no file."""
    damaged = missing = False
    left, seen = [(tree, True)], set[str]()
    while left:
        oid, is_tree = left.pop()
        if oid in _whole or oid in seen:
            continue
        seen.add(oid)
        try:
            content = loose.load(oid, objects)
        except loose.DamagedError:
            loose.path(oid, objects).unlink(missing_ok=True)
            damaged = True
        except OSError:
            missing = True
        else:
            left += loose.children(content) if is_tree else ()
    if not damaged and not missing:
        _whole.update(seen)
    return damaged, missing


def _git_has(tree: str, repository: Path) -> bool:
    look = ("rev-list", "--objects", "--quiet", tree)
    try:
        git.run(*look, folder=repository, env=git.isolated_environment())
    except git.GitFailed:
        return False
    return True
