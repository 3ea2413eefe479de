"""Where a template lives: from what a user typed to a local git repository that has it.

Knows git and the cache of mirrors; knows nothing of refs, questions or Copier's rendering. What is recorded in a
service must mean the same on every machine and to bare Copier, so addresses are spelled as Copier understands them.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from dockyard.errors import (
    CannotCache,
    CredentialsInSource,
    DockyardError,
    NotATemplate,
    NoTemplate,
    SourceUnreachable,
)
from dockyard.programs import git

_ALIASES = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}
_SSH_SHORTHAND = re.compile(r"(?:[^/@:\s]+@)?[^/@:\s]+:(?!//)[^@\s]+")
_REMOTE_HEAD = "refs/dockyard/head"
_remembered: "dict[str, Source | str]" = {}
"""Sources by what was typed, or the sentence that says why there is none."""


@dataclass(frozen=True, slots=True)
class Source:
    """A template's repository, at hand on this machine."""

    recorded: str
    """What a service records as `_src_path`: an absolute folder or an address without credentials."""
    url: str | None
    """What git calls it; None for a local folder."""
    repository: Path
    """The folder itself, or the mirror of `url`."""
    head: str
    """The ref of the source's default state in `repository`."""
    has_worktree: bool
    """Whether someone may have uncommitted changes there."""
    named: str = "--template"
    """Where the user names it."""
    stale: str | None = None
    """Why the mirror could not be brought up to date and is used as it is; None when it could."""


def default_source() -> str:
    """The template to use when none is named: `DOCKYARD_TEMPLATE`, else the checkout that this code runs from.

    Raises NoTemplate.
    """
    if named := os.environ.get("DOCKYARD_TEMPLATE"):
        return named
    for folder in Path(__file__).resolve().parents:
        if (folder / "copier.yml").is_file():
            return str(folder)
    raise NoTemplate


def locate(typed: str, named: str = "--template") -> Source:
    """The repository behind `typed`: a folder, a git URL, `user@host:path`, `gh:owner/name` or `gl:owner/name`.

    A remote one is brought into the cache of mirrors, or brought up to date there; when it does not answer, a mirror
    that exists serves as it is. `named` says where `typed` is from. Raises CredentialsInSource, SourceUnreachable and
    NotATemplate.
    """
    if found := _remembered.get(typed):
        if isinstance(found, str):
            raise DockyardError(found)
        return replace(found, named=named)
    folder = Path(os.path.abspath(Path(typed).expanduser()))  # noqa: PTH100 - resolve() would record what a link points to today
    url = None if folder.exists() else _url(typed, named)
    if url is None:
        return _local(folder, named)
    # Copier takes an address for a git repository only by its ending or by this prefix.
    recorded = url if url.endswith(".git") else f"git+{url}"
    mirror, stale = _mirror(url, named)
    return Source(recorded, url, mirror, _REMOTE_HEAD, has_worktree=False, named=named, stale=stale)


def remember(sources: Mapping[str, Source | str]) -> None:
    """Let `locate` answer from `sources` in this process: a command asks each address once, not once a service.

    One that did not answer has the sentence that says so.
    """
    _remembered.clear()
    _remembered.update(sources)


def _url(typed: str, named: str) -> str | None:
    for alias, host in _ALIASES.items():
        if typed.startswith(alias):
            return f"{host}{typed.removeprefix(alias).strip('/').removesuffix('.git')}.git"
    address = typed.removeprefix("git+")
    if "://" not in address:
        return address if _SSH_SHORTHAND.fullmatch(address) else None
    try:
        parts = urlsplit(address)
        host = parts.hostname or "its host"
    except ValueError as error:
        raise SourceUnreachable(f"given by {named}", "its address is malformed", named) from error
    # In HTTP a user name alone is a credential too: tokens are passed that way.
    if parts.password is not None or (
        parts.username is not None and parts.scheme in {"http", "https"}
    ):
        raise CredentialsInSource(host)
    return address


def _local(folder: Path, named: str) -> Source:
    if not folder.is_dir():
        raise SourceUnreachable(str(folder), "there is no such folder", named)
    mend = f"Name the root of a template's git repository in {named}."
    try:
        bare, up = git.run("rev-parse", "--is-bare-repository", "--show-cdup", folder=folder).split(
            "\n"
        )[:2]
    except git.GitFailed as error:
        raise NotATemplate(
            str(folder), error.reason, git.TRUST if error.is_distrust else mend
        ) from error
    if up:
        raise NotATemplate(
            str(folder), "it is a folder inside a git repository, not its root", mend
        )
    if bare == "true" and folder.suffix != ".git":
        raise NotATemplate(
            str(folder), "Copier knows a bare repository only by a name that ends in .git", mend
        )
    return Source(str(folder), None, folder, "HEAD", has_worktree=bare == "false", named=named)


def _mirror(url: str, named: str) -> tuple[Path, str | None]:
    """The mirror of `url`, and why it is not up to date, if it is not."""
    mirror = cache("templates") / f"{sha256(url.encode()).hexdigest()[:32]}.git"
    with locked(mirror.with_suffix(".lock")):
        is_new = not mirror.exists()
        git.run(
            "init",
            "--quiet",
            "--bare",
            str(mirror),
            folder=mirror.parent,
            env=git.isolated_environment(),
        )
        try:
            git.run(
                *("-c", "gc.auto=0", "fetch", "--quiet", "--prune", "--", url),
                *(
                    f"+HEAD:{_REMOTE_HEAD}",
                    "+refs/heads/*:refs/heads/*",
                    "+refs/tags/*:refs/tags/*",
                ),
                folder=mirror,
            )
        except git.GitFailed as error:
            if is_new:
                shutil.rmtree(mirror)
                raise SourceUnreachable(url, error.reason, named) from error
            return mirror, error.reason
    return mirror, None


def cache(room: str) -> Path:
    """The folder `room` of the cache: in `DOCKYARD_CACHE_DIR`, else in the user's own cache. Raises CannotCache."""
    own = os.environ.get("DOCKYARD_CACHE_DIR")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(own or Path(shared) / "dockyard").absolute() / room
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCache(folder, error) from error
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time: git does not wait when two fetches write the same refs. Raises CannotCache."""
    try:
        lock = path.open("w")
    except OSError as error:
        raise CannotCache(path.parent, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
