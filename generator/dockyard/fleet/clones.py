"""Where the services and templates of a fleet are on this disk: in place, or in clones of Dockyard's own.

Knows git; knows nothing of updates. Nobody else works in a clone: it is brought to its branch's newest state each time.
"""

import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from dockyard.errors import ServiceUnreachable
from dockyard.fleet.roster import Member
from dockyard.programs import git, network
from dockyard.rendering import source


def folder(member: Member) -> Path:
    """The folder of the service on this disk, for a repository elsewhere as it was brought here."""
    return member.path if member.path is not None else _clone(member) / member.folder


def bring(member: Member) -> None:
    """Bring the service's repository here, or up to date, with the branches that Dockyard pushed to it.

    A service in a folder is where it is. Raises ServiceUnreachable.
    """
    if member.url is None:
        return
    clone = _clone(member)
    env = git.environment()
    with source.locked(clone.with_suffix(".lock")):
        try:
            with network.bounded():
                if not (clone / ".git").exists():
                    shutil.rmtree(clone, ignore_errors=True)
                    cloning = ("clone", "--quiet", "--no-checkout", "--", member.url, str(clone))
                    git.run(*cloning, folder=clone.parent, env=env)
                git.run("fetch", "--quiet", "--prune", "origin", folder=clone, env=env)
                git.run("remote", "set-head", "origin", "--auto", folder=clone, env=env)
            wanted = (
                f"refs/remotes/origin/{member.branch}"
                if member.branch
                else "refs/remotes/origin/HEAD"
            )
            git.run(
                "checkout",
                "--quiet",
                "--force",
                "--detach",
                wanted,
                folder=clone,
                env=git.isolated_environment(),
            )
            _follow(clone, env)
        except git.GitFailed as error:
            raise ServiceUnreachable(member.name, member.url, error.reason) from error


def _follow(clone: Path, env: Mapping[str, str]) -> None:
    """Make the local branches of Dockyard's those of the remote: what people pushed there counts."""
    heads = git.run(
        "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/dockyard/", folder=clone
    )
    remote = git.run(
        "for-each-ref",
        "--format=%(refname:lstrip=3)",
        "refs/remotes/origin/dockyard/",
        folder=clone,
    )
    for branch in set(heads.splitlines()) - set(remote.splitlines()):
        git.run("update-ref", "-d", f"refs/heads/{branch}", folder=clone, env=env)
    for branch in remote.splitlines():
        git.run(
            "update-ref",
            f"refs/heads/{branch}",
            f"refs/remotes/origin/{branch}",
            folder=clone,
            env=env,
        )


def key(member: Member) -> str:
    """The same for members that share a clone."""
    return sha256(f"{member.url}\0{member.branch or ''}".encode()).hexdigest()[:32]


def _clone(member: Member) -> Path:
    return source.cache("services") / key(member)
