"""What stops Dockyard from writing to a service, so that nobody's work is lost: as in `errors`, one class a case."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from dockyard.errors import DockyardError, one_line


class DirtyService(DockyardError):
    """Uncommitted changes would be left out of the update or mixed with it."""

    def __init__(self, folder: Path, changed: int) -> None:
        super().__init__(
            f"{folder} has {changed} uncommitted {'change' if changed == 1 else 'changes'}: "
            "commit them, or put them aside with `git stash`, and run this again."
        )


class HiddenChanges(DockyardError):
    """Files that would be replaced differ from the commit, and git was told not to look at them."""

    def __init__(self, paths: Iterable[str]) -> None:
        names = " ".join(map(shlex.quote, paths))
        super().__init__(
            f"this would write over changes in {names} that `git status` does not show: let git see them again with "
            f"`git update-index --no-skip-worktree {names}` and `git update-index --no-assume-unchanged {names}`, "
            "commit them or put them aside, and run this again."
        )


class MovedOn(DockyardError):
    """Another commit is checked out than the one that the work began with."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"another commit was checked out in {folder} meanwhile: nothing was written; run this again."
        )


class SavedMeanwhile(DockyardError):
    """Work was saved where the command was writing; what it wrote is undone and that work is kept."""

    def __init__(self, folder: Path, kept: Iterable[str]) -> None:
        super().__init__(
            f"files in {folder} were saved while this wrote there, so it is undone. What was saved is in "
            f"{', '.join(kept)}: put it where it belongs, commit it, and run this again."
        )


class UnmergedService(DockyardError):
    """A merge in the service is not finished."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} has a merge that is not finished: solve its conflicts and commit, "
            "or give it up with `git merge --abort` or `git checkout HEAD -- .`, and run this again."
        )


class BranchTaken(DockyardError):
    """The update's branch is there and is not, or not only, Dockyard's work."""

    def __init__(self, branch: str, why: str) -> None:
        super().__init__(
            f"the branch {branch} {why}: merge it, rename it or delete it with `git branch -D {branch}`, "
            "and run this again."
        )


class InTheWay(DockyardError):
    """Files that git does not know are where the update would write."""

    def __init__(self, paths: Iterable[str]) -> None:
        names = ", ".join(paths)
        super().__init__(
            f"this would write over {names}, unknown to git: commit or move that, and run this again."
        )


class CannotApply(DockyardError):
    """The operating system refused to write the update; the service is as it was."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"cannot write the update to {folder}: {one_line(reason)}. Everything there is as it was; "
            "mend that and run this again."
        )


class Occupied(DockyardError):
    """Somebody else is writing to the service."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"cannot write to {folder}: {why}. Wait until it is done, then run this again."
        )
