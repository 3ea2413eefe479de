"""Errors that end a command: one class for each mistake.

Each sentence says what is wrong, where, and how to mend it.

The errors of more than one room are here; an error of one room is in the module that raises it.
Knows nothing of git, Copier or the terminal. The command line prints the sentence and exits with
`exit_code`.
"""

import re
import shlex
import traceback
from collections.abc import Iterable
from pathlib import Path

_CREDENTIALS = re.compile(r"://[^/\s@]+@")
_LONGEST_REASON = 600


def one_line(text: str) -> str:
    """Another program's `text` for a sentence: one line, without credentials, cut if it is long."""
    line = _CREDENTIALS.sub("://***@", " ".join(text.split())).rstrip(".")
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} …"


class DockyardError(Exception):
    """Base of everything that ends a command with a sentence instead of a traceback."""

    exit_code = 2


class Refused(DockyardError):
    """The operating system refused something, and no caller translated the error."""

    def __init__(self, error: OSError) -> None:
        where = f"{error.filename}: " if error.filename else ""
        super().__init__(
            f"cannot go on: {where}{one_line(error.strerror or str(error))}. "
            "Mend that and run this again."
        )


class Defect(DockyardError):
    """An error that nobody foresaw. Exit code 1 would say that something is left for a person."""

    def __init__(self, error: Exception) -> None:
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = one_line(f"{type(error).__name__}: {error} ({Path(at.filename).name}:{at.lineno})")
        super().__init__(f"a defect of dockyard: {reason}; please report it.")


# What a person types.


class BadName(DockyardError):
    """The name of the new service is not kebab-case."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is not a service name: use kebab-case, a lower-case letter first, "
            "then lower-case letters, digits and single hyphens, such as billing-svc."
        )


class NameTaken(DockyardError):
    """Something is already where the new service should be."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} exists already: choose another name, another folder with --into, "
            "or move it away."
        )


class NameGivenTwice(DockyardError):
    """A `--data service_name=…` beside the name itself."""

    def __init__(self) -> None:
        super().__init__("--data service_name=…: NAME says it already, leave this --data out.")


class BadData(DockyardError):
    """A `--data` that is not `question=answer`."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"--data {text!r} is not of the form question=answer: "
            "write for example --data owner=payments."
        )


class UnknownQuestion(DockyardError):
    """A `--data` for a question that the template does not ask."""

    def __init__(self, key: str, source: str, questions: Iterable[str]) -> None:
        super().__init__(
            f"--data {key}=…: the template {source} does not ask {key!r}; "
            f"it asks {', '.join(sorted(questions))}."
        )


class NobodyToAsk(DockyardError):
    """Questions are open and standard input is not a terminal."""

    def __init__(self, questions: Iterable[str]) -> None:
        super().__init__(
            f"cannot ask for {', '.join(questions)}: standard input is not a terminal; "
            "add --defaults, or answer with --data question=answer."
        )


class CannotGoTogether(DockyardError):
    """Two options exclude each other."""

    def __init__(self, one: str, other: str, why: str) -> None:
        super().__init__(f"{one} and {other} cannot go together: {why}; choose one.")


# Programs.


class ToolMissing(DockyardError):
    """A program that Dockyard needs is not installed."""

    def __init__(self, tool: str) -> None:
        super().__init__(
            f"{tool} is needed and not found: install it, or put its folder on PATH, "
            "and run this again."
        )


class ToolFailed(DockyardError):
    """A program that Dockyard runs ended badly."""

    def __init__(
        self, doing: str, reason: str, mend: str = "Mend that and run this again."
    ) -> None:
        super().__init__(f"cannot {doing}: {one_line(reason)}. {mend}")


# The service.


class NotAService(DockyardError):
    """The folder has no answers file, or git does not know it."""

    def __init__(self, folder: Path, why: str, mend: str) -> None:
        super().__init__(
            f"{folder} is not a service that Dockyard can read: {one_line(why)}. {mend}"
        )


class BrokenAnswers(DockyardError):
    """The answers file is there and does not say what it should."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(
            f"{file} cannot be used: {one_line(why)}. Restore it from git, for example with "
            f"`git checkout HEAD -- {shlex.quote(file.name)}`, "
            "or let `dockyard adopt` write a new one."
        )


# What stops a write, so that nobody's work is lost.


class CannotWrite(DockyardError):
    """The operating system refuses a new service: permission, space, a file in a folder's place."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"cannot write to {path}: {one_line(error.strerror or str(error))}. "
            "Mend that, or choose another folder with --into."
        )


class CannotApply(DockyardError):
    """The operating system refused to write to the service, which is as it was."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"cannot write the update to {folder}: {one_line(reason)}. Everything there is as it "
            "was; mend that and run this again."
        )


class DirtyService(DockyardError):
    """Uncommitted changes would be left out of the update or mixed with it."""

    def __init__(self, folder: Path, changed: int) -> None:
        super().__init__(
            f"{folder} has {changed} uncommitted {'change' if changed == 1 else 'changes'}: "
            "commit them, or put them aside with `git stash`, and run this again."
        )


class UnmergedService(DockyardError):
    """A merge in the service is not finished."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} has a merge that is not finished: solve its conflicts and commit, "
            "or give it up with `git merge --abort` or `git checkout HEAD -- .`, "
            "and run this again."
        )


class HiddenChanges(DockyardError):
    """Files that would be replaced have changes, and git was told not to look at them."""

    def __init__(self, paths: Iterable[str]) -> None:
        names = " ".join(map(shlex.quote, paths))
        super().__init__(
            f"this would write over changes in {names} that `git status` does not show: "
            f"let git see them again with `git update-index --no-skip-worktree {names}` "
            f"and `git update-index --no-assume-unchanged {names}`, "
            "commit them or put them aside, and run this again."
        )


class InTheWay(DockyardError):
    """Files that git does not know are where the update would write."""

    def __init__(self, paths: Iterable[str]) -> None:
        super().__init__(
            f"this would write over {', '.join(paths)}, unknown to git: "
            "commit or move that, and run this again."
        )


class MovedOn(DockyardError):
    """Another commit is checked out than at the beginning of the work."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"another commit was checked out in {folder} meanwhile: "
            "nothing was written; run this again."
        )


class SavedMeanwhile(DockyardError):
    """Somebody saved work where the command was writing. The write is undone, the work is kept."""

    def __init__(self, folder: Path, kept: Iterable[str]) -> None:
        super().__init__(
            f"files in {folder} were saved while this wrote there, so it is undone. "
            f"What was saved is in {', '.join(kept)}: put it where it belongs, commit it, "
            "and run this again."
        )


class Occupied(DockyardError):
    """Another process writes to the service."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"cannot write to {folder}: {why}. Wait until it is done, then run this again."
        )
