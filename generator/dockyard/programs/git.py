"""The few git calls, typed. Knows nothing of templates or services.

Work that is Dockyard's own runs isolated from the user's taste (hooks, signing, line endings, ignore patterns), so
that the same template gives the same bytes on every machine. What talks to a network keeps the user's whole
configuration: credential helpers, proxies, SSH commands.
"""

import os
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dockyard.errors import GitTooOld, ToolFailed, ToolMissing
from dockyard.programs import network

# Set by git for its hooks; inherited, they would point our git at the user's repository. And the format of hashes: that
# of services and templates is SHA-1, whatever the user likes for new repositories.
_REPOSITORY_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DEFAULT_HASH",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)
_ISOLATION = {
    "advice.detachedHead": "false",
    "commit.gpgSign": "false",
    "core.attributesFile": os.devnull,
    "core.autocrlf": "false",
    "core.excludesFile": os.devnull,
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "gc.auto": "0",
    "init.defaultObjectFormat": "sha1",
}
TRUST = "If you trust whoever owns it, do as git says and run this again."
NEUTRAL_IDENTITY = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "Dockyard"), ("EMAIL", "dockyard@localhost.invalid"))
}


class GitFailed(ToolFailed):
    """A git command ended with an error; `reason` is what it said."""

    def __init__(self, command: str, folder: Path, reason: str) -> None:
        super().__init__(f"run git {command} in {folder}", reason)
        self.reason = reason
        self.is_distrust = "safe.directory" in reason
        """Whether git refuses a repository that is somebody else's."""


@dataclass(frozen=True, slots=True)
class FirstCommit:
    """What `first_commit` made."""

    branch: str
    fallback_identity: bool
    """Whether git knew no author, so that Dockyard's neutral one was used."""


def environment() -> dict[str, str]:
    """This process's environment with the user's git configuration, bound to no repository."""
    return {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}


def isolated_environment(config: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for Dockyard's own work; `config` adds git settings to the isolating ones."""
    env = environment()
    settings = {**_ISOLATION, **(config or {})}
    taken = int(env.get("GIT_CONFIG_COUNT", "0"))
    for number, (key, value) in enumerate(settings.items(), start=taken):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    env["GIT_CONFIG_COUNT"] = str(taken + len(settings))
    env["GIT_TEMPLATE_DIR"] = ""
    return env


def run(
    *arguments: str, folder: Path, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> str:
    """Standard output of `git <arguments>` in `folder`, which is given `stdin`.

    Bytes that are no UTF-8, as in names of files, come through as surrogates. `env` defaults to `environment()`.
    Raises ToolMissing without a git, GitFailed when it ends with an error.
    """
    return os.fsdecode(output(*arguments, folder=folder, env=env, stdin=stdin))


def output(
    *arguments: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    good: Collection[int] = (0,),
) -> bytes:
    """As `run`, in bytes; an exit code in `good` is no error."""
    return _finished(arguments, folder, env, stdin, good).stdout


def exit_code(*arguments: str, folder: Path, good: Collection[int]) -> int:
    """The exit code of `git <arguments>` in `folder`, which is one in `good`. Raises ToolMissing and GitFailed."""
    return _finished(arguments, folder, None, b"", good).returncode


def require(version: tuple[int, int]) -> None:
    """Raises GitTooOld when the git in PATH is older than `version`, ToolMissing without one."""
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
            # What git says is looked at, and stands in sentences: in one language.
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
    """Make `folder` a repository with one commit of all that its own .gitignore lets in; ignored files are removed.

    The branch is the user's `init.defaultBranch` or `main`, the author the user, else a neutral fallback.
    Raises GitFailed and ToolMissing.
    """
    env = isolated_environment()
    branch = _setting("init.defaultBranch", folder, env) or "main"
    run("init", "--quiet", f"--initial-branch={branch}", folder=folder, env=env)
    known = commit_all(folder, message)
    run("clean", "--quiet", "-fdX", folder=folder, env=env)
    return FirstCommit(branch=branch, fallback_identity=not known)


def commit_all(folder: Path, message: str) -> bool:
    """Commit everything in the repository `folder` that its .gitignore lets in.

    True when the author is the user, False when git knows none and the neutral fallback was taken.
    """
    env = isolated_environment()
    known = knows_its_user(folder, env)
    if not known:
        env |= NEUTRAL_IDENTITY
    run("add", "--all", folder=folder, env=env)
    run("commit", "--quiet", f"--message={message}", folder=folder, env=env)
    return known


def _setting(key: str, folder: Path, env: Mapping[str, str]) -> str:
    return run("config", "--default=", "--get", key, folder=folder, env=env).strip()


def knows_its_user(folder: Path, env: Mapping[str, str]) -> bool:
    """Whether the user named themselves; an identity that git would guess from the host does not count."""
    try:
        for identity in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
            run("-c", "user.useConfigOnly=true", "var", identity, folder=folder, env=env)
    except GitFailed:
        return False
    return True
