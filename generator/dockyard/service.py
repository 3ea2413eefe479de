"""A service on disk: where it is, which git repository has it, and what it records of its template.

Knows git and the answers file; knows nothing of rendering, merging or versions of the template.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import yaml

from dockyard.errors import BrokenAnswers, NotAService
from dockyard.hindrances import DirtyService, UnmergedService
from dockyard.programs import git
from dockyard.programs.tree import Entries, entries
from dockyard.rendering.render import Recorded

_ANSWERS = ".copier-answers.yml"
_SHA1_LENGTH = 40


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
    """Where git keeps this working tree's index and HEAD."""
    objects: Path
    """The repository's object database."""
    head: str
    """Id of the commit that is checked out."""
    tree: str
    """Id of the tree of the service's folder in that commit."""
    recorded: Recorded

    @property
    def name(self) -> str:
        """The service's name, by its answers, else by its folder."""
        return str(self.recorded.answers.get("service_name", self.root.name))


def place(path: Path) -> Path:
    """`path` from the root, with the name that its folder has: `..` is none."""
    return path.resolve() if ".." in path.parts else path.absolute()


def open_service(path: Path) -> Service:
    """The service in the folder `path`.

    Raises NotAService when it is no folder of a git repository with a commit, or has no answers file; BrokenAnswers
    when that file cannot be used.
    """
    root = place(path)
    if not root.is_dir():
        raise NotAService(root, "there is no such folder", "Name the folder of a service.")
    file = _answers_file(root)
    return _at(root, read_answers(root, file))


def open_unrecorded(path: Path, recorded: Recorded) -> Service:
    """The folder `path` as a service that records `recorded`, whatever its answers file says. Raises NotAService."""
    root = place(path)
    if not root.is_dir():
        raise NotAService(root, "there is no such folder", "Name the folder of a service.")
    return _at(root, recorded)


def _at(root: Path, recorded: Recorded) -> Service:
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
            *("--show-prefix", "HEAD", "HEAD:./"),
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
    return Service(root, Path(top), prefix, Path(git_dir), Path(objects), head, tree, recorded)


def read_answers(root: Path, file: str) -> Recorded:
    """What the answers file `file` of the service in `root` says. Raises BrokenAnswers."""
    path = root / file
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BrokenAnswers(path, str(error)) from error
    if not isinstance(said, dict):
        raise BrokenAnswers(path, "it holds no answers")
    missing = [
        key
        for key in ("_src_path", "_commit")
        if not isinstance(said.get(key), str) or not said[key]
    ]
    if missing:
        raise BrokenAnswers(path, f"{' and '.join(missing)} is missing, or no text")
    answers = {str(key): value for key, value in said.items() if not str(key).startswith("_")}
    return Recorded(said["_src_path"], said["_commit"], answers, file)


def files(service: Service) -> Entries:
    """The service's files as of its commit, by their path in the service."""
    return entries(service.tree, service.root, git.isolated_environment())


def require_clean(service: Service, among: Collection[str] | None = None) -> None:
    """Raises UnmergedService or DirtyService when files that git knows differ from the commit, in this folder.

    With `among` only these files count, and one that is merely deleted has nothing to lose.
    """
    env = git.environment() | {"GIT_OPTIONAL_LOCKS": "0"}
    options = (
        "--porcelain",
        "-z",
        "--untracked-files=no",
        "--ignore-submodules=untracked",
        "--no-renames",
    )
    listed = git.run("status", *options, "--", ".", folder=service.root, env=env)
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
    found = sorted(path.name for path in root.glob(".copier-answers*.y*ml"))
    if _ANSWERS in found:
        return _ANSWERS
    if len(found) == 1:
        return found[0]
    raise NotAService(
        root,
        f"it has no {_ANSWERS}" + (f", but {' and '.join(found)}" if found else ""),
        "Name the folder of a service, or take this one in with `dockyard adopt`.",
    )


def _not_in_git(root: Path, error: git.GitFailed) -> NotAService:
    try:
        git.run("rev-parse", "--show-toplevel", folder=root)
    except git.GitFailed:
        mend = git.TRUST if error.is_distrust else "Make it a git repository and commit it first."
        return NotAService(root, error.reason, mend)
    return NotAService(root, "git has no commit of it", "Commit it first.")
