"""A service on disk: where it is, which git repository has it, and what it records of its template.

Knows git and the answers file; knows nothing of rendering, merging or versions of the template.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dockyard import answers
from dockyard.answers import ANSWERS_FILE, Recorded
from dockyard.errors import DirtyService, NotAService, UnmergedService
from dockyard.programs import git
from dockyard.programs.tree import Entries, entries

_SHA1_LENGTH = 40
_ANSWERS = re.compile(r"\.copier-answers.*\.y.*ml")


@dataclass(frozen=True, slots=True)
class Service:
    """A service as of its last commit."""

    root: Path
    """Its folder, which has the answers file."""
    repository: Path
    """The working tree's top folder."""
    prefix: str
    """The service's folder in the repository: empty at the top, else with a slash at its end."""
    git_dir: Path
    """Where git keeps the index and HEAD of this working tree."""
    objects: Path
    """The repository's object database."""
    head: str
    """Id of the checked-out commit."""
    tree: str
    """Id of the tree of the service's folder in that commit."""
    recorded: Recorded
    is_checked_out: bool = True
    """Whether `head` is the commit whose files lie on the disk."""

    @property
    def name(self) -> str:
        """The service's name, by its answers, else by its folder."""
        return str(self.recorded.answers.get("service_name", self.root.name))


def place(path: Path) -> Path:
    """`path` from the root. `..` is resolved, because the folder's name counts."""
    return path.resolve() if ".." in path.parts else path.absolute()


def open_service(path: Path) -> Service:
    """The service in the folder `path`.

    Raises NotAService if it has no answers file or is in no git repository with a commit, and
    BrokenAnswers if the answers file cannot be used.
    """
    root = place(path)
    if not root.is_dir():
        raise NotAService(root, "there is no such folder", "Name the folder of a service.")
    file = _answers_file(root)
    return _at(root, answers.read(root, file))


def open_at(path: Path, commit: str) -> Service:
    """The service in the folder `path` as of `commit`, whatever is checked out there.

    Raises what `open_service` raises.
    """
    root = place(path)
    try:
        names = git.run("ls-tree", "--name-only", "-z", commit, folder=root).split("\0")
        file = _chosen(root, [name for name in names if _ANSWERS.fullmatch(name)])
        text = git.run("show", f"{commit}:./{file}", folder=root)
    except git.GitFailed as error:
        raise NotAService(root, error.reason, "Fetch that commit, or check it out.") from error
    return _at(root, answers.understood(text, root / file, file), commit)


def open_unrecorded(path: Path, recorded: Recorded) -> Service:
    """The folder `path` as a service that records `recorded`, not what its answers file says.

    Raises NotAService.
    """
    root = place(path)
    if not root.is_dir():
        raise NotAService(root, "there is no such folder", "Name the folder of a service.")
    return _at(root, recorded)


def _at(root: Path, recorded: Recorded, commit: str = "HEAD") -> Service:
    try:
        listed = git.run(
            *(
                "rev-parse",
                "--path-format=absolute",
                "--show-toplevel",
                "--git-dir",
                "--git-path",
                "objects",
            ),
            *("--show-prefix", commit, f"{commit}:./"),
            folder=root,
        )
    except git.GitFailed as error:
        raise _not_in_git(root, error) from error
    top, git_dir, objects, prefix, head, tree = listed.split("\n")[:6]
    if len(head) != _SHA1_LENGTH:
        raise NotAService(
            root,
            "its repository uses SHA-256",
            "Templates and services must use git's SHA-1 format.",
        )
    is_head = commit == "HEAD"
    return Service(
        root, Path(top), prefix, Path(git_dir), Path(objects), head, tree, recorded, is_head
    )


def files(service: Service) -> Entries:
    """The service's files as of its commit, by their path in the service."""
    return entries(service.tree, service.root, git.isolated_environment())


def require_clean(service: Service, among: Collection[str] | None = None) -> None:
    """Raises UnmergedService or DirtyService if files that git knows differ from the commit.

    Only files in the service's folder count; with `among`, only these. Of `among`, a file that is
    merely deleted has nothing to lose. A service that is not checked out has no such files.
    """
    if not service.is_checked_out:
        return
    options = (
        "--porcelain",
        "-z",
        "--untracked-files=no",
        "--ignore-submodules=untracked",
        "--no-renames",
    )
    listed = git.run("status", *options, "--", ".", folder=service.root)
    states = [
        (line[:2], line[3:].removeprefix(service.prefix)) for line in listed.split("\0") if line
    ]
    if any("U" in state or state in {"AA", "DD"} for state, _ in states):
        raise UnmergedService(service.root)
    if among is not None:
        states = [(state, path) for state, path in states if path in among and state.strip() != "D"]
    if states:
        raise DirtyService(service.root, len(states))


def _answers_file(root: Path) -> str:
    return _chosen(root, sorted(path.name for path in root.glob(".copier-answers*.y*ml")))


def _chosen(root: Path, found: list[str]) -> str:
    if ANSWERS_FILE in found:
        return ANSWERS_FILE
    if len(found) == 1:
        return found[0]
    raise NotAService(
        root,
        f"it has no {ANSWERS_FILE}" + (f", but {' and '.join(found)}" if found else ""),
        "Name the folder of a service, or take this one in with `dockyard adopt`.",
    )


def _not_in_git(root: Path, error: git.GitFailed) -> NotAService:
    try:
        git.run("rev-parse", "--show-toplevel", folder=root)
    except git.GitFailed:
        mend = git.TRUST if error.is_distrust else "Make it a git repository and commit it first."
        return NotAService(root, error.reason, mend)
    return NotAService(root, "git has no commit of it", "Commit it first.")
