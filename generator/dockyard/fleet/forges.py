"""Opens pull requests: by the forge's API with a token, else by `gh` or `glab`, else by a page.

Knows which forge a remote is at, and which token may go there; `apis` and `forge_programs` speak.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from dockyard.fleet.apis.azure import AzureDevOps
from dockyard.fleet.apis.bitbucket import Bitbucket
from dockyard.fleet.apis.gitea import Gitea
from dockyard.fleet.apis.github import GitHub
from dockyard.fleet.apis.gitlab import GitLab
from dockyard.fleet.apis.http import RefusedError
from dockyard.fleet.apis.port import Api, Checks, NotOfferedError, Open, PullRequest
from dockyard.fleet.base import REMOTE
from dockyard.fleet.fleet_file import Forge
from dockyard.fleet.forge_programs import Opened, Program, program_for
from dockyard.fleet.roster import Member
from dockyard.programs import git
from dockyard.service import Service

_ADDRESS = re.compile(
    r"(?:\w[\w+.-]*://)?(?:[^@/]+@)?(?P<host>[^/:]+)(?::\d+(?=/))?[:/](?P<path>[^/].*?)(?:\.git)?/?"
)
_APIS: dict[Forge, Callable[[str, str, str], Api]] = {
    "github": GitHub,
    "gitlab": GitLab,
    "gitea": Gitea,
    "bitbucket": Bitbucket,
    "azure": AzureDevOps,
}
_BASES: dict[Forge, str] = {
    "github": "https://{host}/api/v3",
    "gitlab": "https://{host}/api/v4",
    "gitea": "https://{host}/api/v1",
    "bitbucket": "https://{host}/2.0",
    "azure": "https://{host}",
}
_KNOWN: dict[str, tuple[Forge, str, tuple[str, ...]]] = {
    "github.com": ("github", "https://api.github.com", ("GITHUB_TOKEN", "GH_TOKEN")),
    "gitlab.com": ("gitlab", "https://gitlab.com/api/v4", ("GITLAB_TOKEN",)),
    "codeberg.org": ("gitea", "https://codeberg.org/api/v1", ("GITEA_TOKEN",)),
    "gitea.com": ("gitea", "https://gitea.com/api/v1", ("GITEA_TOKEN",)),
    "bitbucket.org": ("bitbucket", "https://api.bitbucket.org/2.0", ("BITBUCKET_TOKEN",)),
    "dev.azure.com": ("azure", "https://dev.azure.com", ("AZURE_DEVOPS_EXT_PAT",)),
}
"""Forges that all the world uses. A token goes to these, and to the ones in the fleet file."""
_ALREADY = 409
"""The status with which a forge says that a thing is so already."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a service's remote is."""

    host: str
    path: str
    kind: Forge
    base: str
    token: str

    @property
    def api(self) -> Api | None:
        """None without a token."""
        return _APIS[self.kind](self.base, self.token, self.path) if self.token else None


def open_or_refresh(
    service: Service, wanted: PullRequest, member: Member, *, is_new: bool
) -> Opened:
    """Open the pull request `wanted`. If it is open and the branch `is_new`, rewrite its text."""
    place = _place(service, member)
    if place is None:
        return Opened(
            problem=f"the branch is pushed, but the address of {REMOTE} names no forge: "
            "open its pull request yourself."
        )
    if (api := place.api) is not None:
        return _by_api(api, wanted, member, _page(place, wanted), is_new=is_new)
    if (program := _program(place, wanted)) is not None:
        return program.open_or_refresh(service, is_new=is_new)
    return Opened(_page(place, wanted))


def is_open(service: Service, branch: str, member: Member) -> bool:
    """Whether `branch` has an open pull request; True too if nobody here can tell."""
    place = _place(service, member)
    if place is None:
        return True
    if (api := place.api) is not None:
        with suppress(RefusedError, *_STRANGE):
            return api.find(branch) is not None
        return False
    program = _program(place, PullRequest(branch, "", "", ""))
    return program is None or program.is_open(service)


def checks(service: Service, commit: str, member: Member) -> Checks | None:
    """What the forge's pipelines say of `commit`; None if it cannot be asked."""
    place = _place(service, member)
    if place is None or (api := place.api) is None:
        return None
    with suppress(RefusedError, *_STRANGE):
        return api.checks(commit)
    return None


_STRANGE = (LookupError, TypeError, AttributeError, ValueError)
"""What an answer raises that is not as the forge's documentation says."""


def _by_api(api: Api, wanted: PullRequest, member: Member, page: str, *, is_new: bool) -> Opened:
    url, doing, remarks = page, "look up", []
    try:
        found = api.find(wanted.branch)
        if found is None:
            doing = "open"
            found = api.create(wanted)
            url = found.url
            doing = "label, or ask for a review of,"
            remarks += _made_known(api, found, wanted)
        elif is_new:
            url, doing = found.url, "refresh"
            api.edit(found, wanted)
        url, doing = found.url, "let the forge merge"
        if member.review.auto_merge and not found.merges_itself:
            remarks += _merging_itself(api, found)
    except RefusedError as error:
        return Opened(url, _problem(doing, str(error)))
    except _STRANGE as error:
        return Opened(url, _problem(doing, f"the answer is not as expected ({error!r})"))
    return Opened(url, remark="; ".join(remarks))


def _made_known(api: Api, found: Open, wanted: PullRequest) -> list[str]:
    """Label it and ask for reviews; what the forge does not have."""
    remarks = []
    for act, names in ((api.label, wanted.labels), (api.ask, wanted.reviewers)):
        try:
            if names:
                act(found, names)
        except NotOfferedError as error:
            remarks.append(str(error))
    return remarks


def _merging_itself(api: Api, found: Open) -> list[str]:
    try:
        api.merge_itself(found)
    except NotOfferedError as error:
        return [str(error)]
    except RefusedError as error:
        if error.status != _ALREADY:
            raise
    return []


def _problem(doing: str, reason: str) -> str:
    return (
        f"it is pushed, but Dockyard cannot {doing} its pull request: {reason}. "
        "Mend that and run this again, or do it there yourself."
    )


def _place(service: Service, member: Member) -> _Place | None:
    """None if the remote is at no address of a forge."""
    found = _ADDRESS.fullmatch(_address(service, "remote", "get-url", REMOTE))
    # An address that leads to a mirror on this machine may still be written as the forge's.
    found = found or _ADDRESS.fullmatch(_address(service, "config", f"remote.{REMOTE}.url"))
    if found is None:
        return None
    host, path = found["host"].removeprefix("ssh."), found["path"]
    known = _KNOWN.get(host)
    kind: Forge = member.forge or (known[0] if known else _likely(host))
    if kind == "azure":
        path = path.removeprefix("v3/").replace("/_git/", "/")
    entry = member.hosts.get(host)
    if entry is not None:
        base = entry.api or _BASES[entry.kind].format(host=host)
        return _Place(host, path, entry.kind, base.rstrip("/"), os.environ.get(entry.token, ""))
    if known is None or known[0] != kind:
        return _Place(host, path, kind, "", "")
    tokens = [os.environ[name] for name in known[2] if os.environ.get(name)]
    return _Place(host, path, kind, known[1], tokens[0] if tokens else "")


def _likely(host: str) -> Forge:
    names: tuple[Forge, ...] = ("gitlab", "gitea", "bitbucket")
    return next((name for name in names if name in host), "github")


def _address(service: Service, *command: str) -> str:
    return git.run(*command, folder=service.root).strip()


def _program(place: _Place, wanted: PullRequest) -> Program | None:
    if place.kind not in {"github", "gitlab"}:
        return None
    return program_for(place.kind == "gitlab", wanted, _page(place, wanted))


def _page(place: _Place, wanted: PullRequest) -> str:
    """The page on which a person opens the pull request."""
    where = f"https://{place.host}/{place.path}"
    into, branch = quote(wanted.into), quote(wanted.branch)
    match place.kind:
        case "gitlab":
            query = {
                "merge_request[source_branch]": wanted.branch,
                "merge_request[target_branch]": wanted.into,
            }
            return f"{where}/-/merge_requests/new?{urlencode(query)}"
        case "bitbucket":
            query = {"source": wanted.branch, "dest": wanted.into}
            return f"{where}/pull-requests/new?{urlencode(query)}"
        case "azure":
            home, _, name = place.path.rpartition("/")
            query = {"sourceRef": wanted.branch, "targetRef": wanted.into}
            return f"https://{place.host}/{home}/_git/{name}/pullrequestcreate?{urlencode(query)}"
        case "gitea":
            return f"{where}/compare/{into}...{branch}"
        case _:
            return f"{where}/compare/{into}...{branch}?expand=1"
