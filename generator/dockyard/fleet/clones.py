"""Where the services of a fleet are on this disk: in place, or in clones of Dockyard's own.

Knows git; knows nothing of updates. Nobody else works in a clone: each time it is brought to its
branch's newest state.
"""

import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from dockyard.errors import DockyardError, one_line
from dockyard.fleet.roster import Member
from dockyard.programs import git, network
from dockyard.programs.cache import cache_folder, locked


class ServiceUnreachable(DockyardError):
    """The repository of a service cannot be brought here."""

    def __init__(self, name: str, url: str, reason: str) -> None:
        super().__init__(
            f"cannot bring {name} here from {one_line(url)}: {one_line(reason)}. "
            "Check the address in the fleet file, the network and your access."
        )


def folder(member: Member) -> Path:
    """The folder of the service on this disk, for a repository elsewhere as it was brought here."""
    return member.path if member.path is not None else _clone(member) / member.folder


def bring(member: Member) -> None:
    """Bring the service's repository here or up to date, with the branches that Dockyard pushed.

    A service in a folder stays where it is. Raises ServiceUnreachable.
    """
    if member.url is None:
        return
    clone = _clone(member)
    network_env, env = git.network_environment(), git.isolated_environment()
    branch = f"refs/remotes/origin/{member.branch or 'HEAD'}"
    with locked(clone.with_suffix(".lock")):
        try:
            with network.bounded():
                if not (clone / ".git").exists():
                    shutil.rmtree(clone, ignore_errors=True)
                    cloning = ("clone", "--quiet", "--no-checkout", "--", member.url, str(clone))
                    git.run(*cloning, folder=clone.parent, env=network_env)
                git.run("fetch", "--quiet", "--prune", "origin", folder=clone, env=network_env)
                head = ("remote", "set-head", "origin", "--auto")
                git.run(*head, folder=clone, env=network_env)
            checkout = ("checkout", "--quiet", "--force", "--detach", branch)
            git.run(*checkout, folder=clone, env=env)
            _follow(clone, env)
        except git.GitFailed as error:
            raise ServiceUnreachable(member.name, member.url, error.reason) from error


def _follow(clone: Path, env: Mapping[str, str]) -> None:
    """Make Dockyard's local branches the remote's: what people pushed there counts."""
    heads = _branches(clone, "refs/heads/dockyard/", 2)
    remote = _branches(clone, "refs/remotes/origin/dockyard/", 3)
    for branch in heads - remote:
        git.run("update-ref", "-d", f"refs/heads/{branch}", folder=clone, env=env)
    for branch in remote:
        refs = (f"refs/heads/{branch}", f"refs/remotes/origin/{branch}")
        git.run("update-ref", *refs, folder=clone, env=env)


def _branches(clone: Path, refs: str, strip: int) -> set[str]:
    told = ("for-each-ref", f"--format=%(refname:lstrip={strip})", refs)
    return set(git.run(*told, folder=clone).splitlines())


def key(member: Member) -> str:
    """The same word for members that share a clone."""
    return sha256(f"{member.url}\0{member.branch or ''}".encode()).hexdigest()[:32]


def _clone(member: Member) -> Path:
    return cache_folder("services") / key(member)
