"""Where a template lives: from what a user typed to a local git repository that has it.

Knows git and the cache of mirrors; knows nothing of refs, questions or Copier's rendering. What a
service records must mean the same on every machine and to bare Copier, so addresses are spelled as
Copier understands them.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dockyard import origin
from dockyard.errors import DockyardError, one_line
from dockyard.programs import git
from dockyard.programs.cache import cache_folder, locked

_ALIASES = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}
_SSH_SHORTHAND = re.compile(r"(?:[^/@:\s]+@)?[^/@:\s]+:(?!//)[^@\s]+")
_REMOTE_HEAD = "refs/dockyard/head"
_remembered: "dict[str, Source | str]" = {}
"""Sources by what was typed, or the sentence that says why there is none."""
_mirrors: set[Path] = set()
"""Mirrors that this process has given out."""


class NoTemplate(DockyardError):
    """No template was named and none can be found."""

    def __init__(self) -> None:
        super().__init__(
            "no template is known: pass --template with a folder or a git URL, "
            "or set DOCKYARD_TEMPLATE to one."
        )


class CredentialsInSource(DockyardError):
    """The template's URL carries credentials, which every service would record."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"the template's URL on {host} carries credentials, which the service would record: "
            "leave them out, and let a git credential helper or an SSH key give them."
        )


class SourceUnreachable(DockyardError):
    """The template's repository does not answer or does not exist."""

    def __init__(self, source: str, reason: str, named: str) -> None:
        super().__init__(
            f"cannot reach the template {source}: {one_line(reason)}. "
            f"Check the address in {named}, the network, and your access."
        )


class NotATemplate(DockyardError):
    """The source is there, but it is not a template that Dockyard can render and later update."""

    def __init__(self, source: str, why: str, mend: str) -> None:
        super().__init__(
            f"{source} is not a template that Dockyard can use: {one_line(why)}. {mend}"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """A template's repository, at hand on this machine."""

    recorded: str
    """What a service records as `_src_path`: an absolute folder, or a URL without credentials."""
    url: str | None
    """What git calls it; None for a local folder."""
    repository: Path
    """The folder itself, or the mirror of `url`."""
    head: str
    """The ref of the source's default state in `repository`."""
    has_worktree: bool
    """Whether there may be uncommitted changes."""
    named: str = "--template"
    """Where the user names it."""
    stale: str | None = None
    """Why the mirror is not up to date; None if it is."""


def default_source() -> str:
    """The template if none is named: `DOCKYARD_TEMPLATE`, else the one this command came with.

    That is the checkout of this code, or the git repository it was installed from. Raises
    NoTemplate.
    """
    if named := os.environ.get("DOCKYARD_TEMPLATE"):
        return named
    found = origin.checkout() or origin.repository()
    if found is None:
        raise NoTemplate
    return str(found)


def locate(typed: str, named: str = "--template") -> Source:
    """The repository at `typed`: a folder, a git URL, `user@host:path`, `gh:` or `gl:owner/name`.

    A remote repository is fetched into the cache of mirrors. If it does not answer, the mirror from
    the last time serves. `named` says where `typed` comes from. Raises CredentialsInSource,
    SourceUnreachable and NotATemplate.
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
    _mirrors.add(mirror)
    return Source(recorded, url, mirror, _REMOTE_HEAD, has_worktree=False, named=named, stale=stale)


def remember(sources: Mapping[str, Source | str]) -> None:
    """Let `locate` answer from `sources` in this process, so that a fleet asks each address once.

    A source that did not answer is the sentence that says so.
    """
    _remembered.clear()
    _remembered.update(sources)


def is_remote(typed: str) -> bool:
    """Whether `typed` is an address, and not a folder's name."""
    address = typed.removeprefix("git+")
    return (
        typed.startswith(tuple(_ALIASES))
        or "://" in address
        or _SSH_SHORTHAND.fullmatch(address) is not None
    )


def is_same(one: Source, other: Source) -> bool:
    """Whether both are one template: at one folder, or at one URL in two spellings."""
    return _canonical(one) == _canonical(other)


def _canonical(source: Source) -> str:
    """Host and path: the same for ssh and https, with and without user, port, `.git` and slash."""
    url = source.url
    if url is None:
        return str(source.repository.resolve())
    if "://" not in url:
        host, _, path = url.partition(":")
        host = host.rpartition("@")[2]
    else:
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path
        if parts.scheme == "file":
            folder = Path(unquote(path))
            # Git finds template.git under the name template too.
            return str((folder if folder.exists() else Path(f"{folder}.git")).resolve())
    return f"{host.lower()}/{path.strip('/').removesuffix('.git').strip('/')}"


def forget_damaged() -> bool:
    """Delete the mirrors that this process uses and that lack objects; whether there were any.

    `locate` fetches them again.
    """
    damaged = [mirror for mirror in _mirrors if not _is_whole(mirror)]
    _mirrors.clear()
    for mirror in damaged:
        with locked(mirror.with_suffix(".lock")):
            shutil.rmtree(mirror, ignore_errors=True)
    if damaged:
        _remembered.clear()
    return bool(damaged)


def _is_whole(mirror: Path) -> bool:
    check = ("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
    try:
        git.run(*check, folder=mirror, env=git.isolated_environment())
    except git.GitFailed:
        return False
    return True


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
    mirror = cache_folder("templates") / f"{sha256(url.encode()).hexdigest()[:32]}.git"
    with locked(mirror.with_suffix(".lock")):
        is_new = not mirror.exists()
        init = ("init", "--quiet", "--bare", str(mirror))
        git.run(*init, folder=mirror.parent, env=git.isolated_environment())
        refs = (f"+HEAD:{_REMOTE_HEAD}", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        try:
            git.run(
                *("fetch", "--quiet", "--prune", "--", url, *refs),
                folder=mirror,
                env=git.network_environment(),
            )
        except git.GitFailed as error:
            if is_new:
                shutil.rmtree(mirror)
                raise SourceUnreachable(url, error.reason, named) from error
            return mirror, error.reason
    return mirror, None
