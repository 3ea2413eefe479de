"""The few git calls, typed. Knows nothing of templates or services.

Three environments, by whose work it is:

- `isolated_environment`: Dockyard's own repositories. Nothing of the user's git reaches them, so
  that one template gives the same bytes on every machine.
- `environment`: the service's repository and the user's checkout. All of the user's git.
- `network_environment`: what talks to a remote for Dockyard's own repositories. The user's git
  says how to get there (credentials, proxies, SSH); hooks and housekeeping are off.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dockyard.errors import DockyardError, ToolFailed, ToolMissing
from dockyard.programs import network

# Git sets them for its hooks. Inherited, they would point our git at the user's repository.
_REPOSITORY_VARIABLES = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        # Services and templates use SHA-1; the user may prefer another hash for new repositories.
        "GIT_DEFAULT_HASH",
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_WORK_TREE",
    }
)
# Where git is and what it logs: neither changes a byte.
_HARMLESS = re.compile(r"GIT_EXEC_PATH|GIT_TRACE\w*")
_WITHOUT_USER = {
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TEMPLATE_DIR": "",
}
# Said outright, because a template's own repository may say otherwise too.
_ISOLATION = {
    "advice.detachedHead": "false",
    "commit.gpgSign": "false",
    "core.attributesFile": os.devnull,
    "core.autocrlf": "false",
    "core.eol": "lf",
    "core.excludesFile": os.devnull,
    "core.fileMode": "true",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "true",
    "core.safecrlf": "false",
    "core.symlinks": "true",
    "diff.noprefix": "false",
    "gc.auto": "0",
    "init.defaultObjectFormat": "sha1",
    "maintenance.auto": "false",
    # Whether the user trusts a folder is asked when it is opened, with the user's own git.
    "safe.directory": "*",
}
_NETWORK = {
    "core.hooksPath": os.devnull,
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}
_ACCESS = r"^(credential|http|protocol|ssh|url)\.|^core\.(askpass|gitproxy|sshcommand)$"
_ACCESS_VARIABLES = ("GIT_ASKPASS", "GIT_PROXY_COMMAND", "GIT_SSH", "GIT_SSH_COMMAND")
TRUST = "If you trust the owner, do as git says and run this again."
_NEUTRAL = {"NAME": "Dockyard", "EMAIL": "dockyard@localhost.invalid"}
_DATES = ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")
_IDENTITY = re.compile(r"(?P<NAME>.*) <(?P<EMAIL>[^>]*)> \d+ [+-]\d+")


class GitTooOld(DockyardError):
    """The git in PATH lacks what an update needs."""

    def __init__(self, found: str, needed: str) -> None:
        super().__init__(
            f"git {found} is too old: updates need git {needed} or newer. "
            "Install one and put it first in PATH."
        )


class GitFailed(ToolFailed):
    """A git command ended with an error. `reason` is what git said."""

    def __init__(self, command: str, folder: Path, reason: str) -> None:
        look = f"Look at it with `git -C {shlex.quote(str(folder))} fsck`"
        mend = f"{look}; if that finds nothing wrong, please report this."
        super().__init__(f"run git {command} in {folder}", reason, mend)
        self.reason = reason
        self.is_distrust = "safe.directory" in reason
        """Whether git refuses a repository because another user owns it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a commit is by."""

    env: dict[str, str]
    """The variables that tell git."""
    is_fallback: bool
    """Whether git knows no author, so that the commit bears Dockyard's neutral one."""


@dataclass(frozen=True, slots=True)
class FirstCommit:
    """What `first_commit` made."""

    branch: str
    fallback_identity: bool
    """Whether the commit bears Dockyard's neutral identity."""


WITHOUT_HOOKS = ("-c", f"core.hooksPath={os.devnull}")
"""For an index of Dockyard's own beside the user's repository: no hook of the user is about it."""


def environment() -> dict[str, str]:
    """This process's environment, bound to no repository, with all of the user's git.

    A command that only reads refreshes no index on the way, so it runs no hook for that either.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    return kept | {"GIT_OPTIONAL_LOCKS": "0"}


def isolated_environment(config: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for Dockyard's own repositories. `config` adds git settings."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or _HARMLESS.fullmatch(name)
    }
    return _configured(env | _WITHOUT_USER, [*_ISOLATION.items(), *(config or {}).items()])


def network_environment() -> dict[str, str]:
    """The environment for fetching into Dockyard's own repositories."""
    return _configured(environment() | {"GIT_TEMPLATE_DIR": ""}, _NETWORK.items())


def with_access(isolated: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment `isolated`, with all by which the user's git reaches other repositories."""
    listed = output("config", "--null", "--get-regexp", _ACCESS, folder=folder, good=(0, 1))
    settings = [line.partition("\n") for line in os.fsdecode(listed).split("\0")[:-1]]
    programs = {name: os.environ[name] for name in _ACCESS_VARIABLES if name in os.environ}
    return _configured({**isolated, **programs}, [(key, value) for key, _, value in settings])


def _configured(env: dict[str, str], settings: Collection[tuple[str, str]]) -> dict[str, str]:
    taken = int(env.get("GIT_CONFIG_COUNT", "0"))
    for number, (key, value) in enumerate(settings, start=taken):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    return env | {"GIT_CONFIG_COUNT": str(taken + len(settings))}


def run(
    *arguments: str, folder: Path, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> str:
    """Standard output of `git <arguments>` in `folder`, with `stdin` as its input.

    Bytes that are not UTF-8, as in names of files, come as surrogates. `env` is `environment()` by
    default. Raises ToolMissing without a git, GitFailed if it ends with an error.
    """
    return os.fsdecode(output(*arguments, folder=folder, env=env, stdin=stdin))


def output(
    *arguments: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    good: Collection[int] = (0,),
) -> bytes:
    """As `run`, in bytes. An exit code in `good` is not an error."""
    return _finished(arguments, folder, env, stdin, good).stdout


def exit_code(*arguments: str, folder: Path, good: Collection[int]) -> int:
    """The exit code of `git <arguments>` in `folder`, one of `good`. Raises as `run` does."""
    return _finished(arguments, folder, None, b"", good).returncode


def require(version: tuple[int, int]) -> None:
    """Raises GitTooOld if the git in PATH is older than `version`, ToolMissing without one."""
    text = run("version", folder=Path.cwd())
    found = re.search(r"(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < version:
        raise GitTooOld(text.strip().removeprefix("git version "), ".".join(map(str, version)))


def _finished(
    arguments: Sequence[str],
    folder: Path,
    env: Mapping[str, str] | None,
    stdin: bytes,
    good: Collection[int],
) -> subprocess.CompletedProcess[bytes]:
    command = next((word for word in arguments if not word.startswith("-") and "=" not in word), "")
    try:
        done = network.run(
            ["git", "-C", str(folder), *arguments],
            # Code looks at what git says, and sentences quote it: in one language.
            env={**(environment() if env is None else env), "LC_ALL": "C"},
            stdin=stdin,
        )
    except FileNotFoundError as error:
        raise ToolMissing("git") from error
    except network.TookTooLongError as error:
        raise GitFailed(command, folder, str(error)) from error
    if done.returncode not in good:
        reason = done.stderr.decode("utf-8", "replace").strip()
        raise GitFailed(command, folder, reason or f"it ended with status {done.returncode}")
    return done


def first_commit(folder: Path, message: str) -> FirstCommit:
    """Make `folder` a repository with one commit of all that its own .gitignore lets in.

    Ignored files are removed. The branch is the user's `init.defaultBranch` or `main`, the author
    the user or else a neutral one. Raises GitFailed and ToolMissing.
    """
    env = isolated_environment()
    branch = run("config", "--default=main", "--get", "init.defaultBranch", folder=folder).strip()
    run("init", "--quiet", f"--initial-branch={branch}", folder=folder, env=env)
    known = commit_all(folder, message)
    run("clean", "--quiet", "-fdX", folder=folder, env=env)
    return FirstCommit(branch=branch, fallback_identity=not known)


def commit_all(folder: Path, message: str) -> bool:
    """Commit everything in the repository `folder` that its .gitignore lets in.

    True if the author is the user, False if git knows no author and the neutral one stands in.
    """
    author = identity(folder)
    env = isolated_environment() | author.env
    run("add", "--all", folder=folder, env=env)
    run("commit", "--quiet", f"--message={message}", folder=folder, env=env)
    return not author.is_fallback


def identity(folder: Path) -> Identity:
    """Who commits in the repository `folder`: the user, else Dockyard's neutral identity.

    An identity that git would guess from the host does not count.
    """
    try:
        env = {
            f"GIT_{role}_{field}": value
            for role in ("AUTHOR", "COMMITTER")
            for field, value in _named(role, folder).items()
        }
    except GitFailed:
        return Identity(neutral_identity(), is_fallback=True)
    dates = {name: os.environ[name] for name in _DATES if name in os.environ}
    return Identity(env | dates, is_fallback=False)


def neutral_identity() -> dict[str, str]:
    """The variables for a commit that is nobody's."""
    return {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in _NEUTRAL.items()
    }


def _named(role: str, folder: Path) -> dict[str, str]:
    told = run("-c", "user.useConfigOnly=true", "var", f"GIT_{role}_IDENT", folder=folder).strip()
    found = _IDENTITY.fullmatch(told)
    return found.groupdict() if found else dict(_NEUTRAL)
