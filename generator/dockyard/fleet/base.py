"""The commit that an update starts from: the base of its pull request, not what is checked out.

Knows git; knows nothing of templates and forges.
"""

from dataclasses import dataclass
from pathlib import Path

from dockyard.errors import DockyardError, one_line
from dockyard.fleet import clones
from dockyard.fleet.roster import Member
from dockyard.programs import git, network
from dockyard.service import Service, open_at, open_service

REMOTE = "origin"
_HEADS, _TRACKED = "refs/heads/", f"refs/remotes/{REMOTE}/"


class NoBase(DockyardError):
    """The remote does not give the branch that a pull request goes into."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"cannot ask {REMOTE} for the branch that the update starts from: {one_line(reason)}. "
            "Check that remote, the network and your access."
        )


@dataclass(frozen=True, slots=True)
class Based:
    """A service as an update of it begins."""

    service: Service
    branch: str
    """The branch that a pull request goes into; empty if nothing tells."""
    remark: str = ""
    """If another commit is checked out: what is, and where the update starts."""

    @property
    def at(self) -> str | None:
        """The commit, for the commands of one service; None: the one that is checked out."""
        return None if self.service.is_checked_out else self.service.head


@dataclass(frozen=True, slots=True)
class _Heads:
    """The branches of a repository."""

    current: str
    """The branch that is checked out; empty if none is."""
    default: str
    """The default branch of the remote; empty if it is not known."""
    commits: dict[str, str]
    """By the full name of the branch."""


def checked_out(member: Member) -> Based:
    """The service as it lies on the disk, for an update in place."""
    return Based(open_service(clones.folder(member)), member.branch or "")


def base_of(member: Member, *, fetched: bool = False) -> Based:
    """The service at the branch that its pull request goes into.

    That branch is `origin`'s default. It is the local one, or with `fetched` the one that `origin`
    has now. Without a known default, the service is as checked out. Raises NoBase, and what
    `open_service` raises.
    """
    found = checked_out(member)
    place = found.service.root
    if member.url is not None:
        # The clone is Dockyard's own, and at the newest commit of its branch.
        return found if member.branch else Based(found.service, _heads(place).default)
    heads = _fetched(place) if fetched else _heads(place)
    where = _where(heads, found.service.head)
    if not heads.default:
        return Based(found.service, "", where if not heads.current else "")
    name, commit = _start(heads, fetched=fetched)
    if commit is None or (heads.current == heads.default and commit == found.service.head):
        return Based(found.service, heads.default)
    if heads.current == heads.default:
        where = f"its {heads.current} is not at the commit of {name}"
    remark = f"{where}; an update starts from {name}"
    if commit == found.service.head:
        return Based(found.service, heads.default, remark)
    return Based(open_at(place, commit), heads.default, remark)


def _where(heads: _Heads, head: str) -> str:
    return (
        f"it is on the branch {heads.current}"
        if heads.current
        else f"it is detached at {head[:12]}"
    )


def _start(heads: _Heads, *, fetched: bool) -> tuple[str, str | None]:
    """The name and the commit of the base."""
    tracked = heads.commits.get(f"{_TRACKED}{heads.default}")
    local = heads.commits.get(f"{_HEADS}{heads.default}")
    if fetched or local is None:
        return f"{REMOTE}/{heads.default}", tracked
    return heads.default, local


def _heads(place: Path) -> _Heads:
    format_ = "--format=%(HEAD)%(refname)%00%(symref)%00%(objectname)"
    told = git.run("for-each-ref", format_, _HEADS, _TRACKED, folder=place)
    current, default, commits = "", "", {}
    for line in told.splitlines():
        named, symbolic, commit = line.split("\0")
        ref = named[1:]
        commits[ref] = commit
        if named.startswith("*"):
            current = ref.removeprefix(_HEADS)
        if ref == f"{_TRACKED}HEAD":
            default = symbolic.removeprefix(_TRACKED)
    return _Heads(current, default, commits)


def _fetched(place: Path) -> _Heads:
    """The branches, after the remote was asked for its default one."""
    try:
        with network.bounded():
            told = git.run("ls-remote", "--symref", REMOTE, "HEAD", folder=place)
            symbolic = told.partition("\t")[0].removeprefix("ref: ")
            branch = symbolic.removeprefix(_HEADS)
            if branch == symbolic:
                raise NoBase(f"{REMOTE} has no default branch")
            refspec = f"+{symbolic}:{_TRACKED}{branch}"
            git.run("fetch", "--quiet", "--no-write-fetch-head", REMOTE, refspec, folder=place)
    except git.GitFailed as error:
        raise NoBase(error.reason) from error
    found = _heads(place)
    return _Heads(found.current, branch, found.commits)
