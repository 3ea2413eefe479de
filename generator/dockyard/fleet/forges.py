"""Speaks to forges: opens a pull request with `gh` or `glab`, else says which page opens one.

Knows the two programs and the addresses of forges; pushes nothing and knows nothing of templates.
"""

import json
import re
import shutil
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from dockyard.errors import one_line
from dockyard.fleet.base import REMOTE
from dockyard.fleet.fleet_file import Forge
from dockyard.programs import git, network
from dockyard.service import Service

_ADDRESS = re.compile(
    r"(?:\w[\w+.-]*://)?(?:[^@/]+@)?(?P<host>[^/:]+)(?::\d+(?=/))?[:/](?P<path>[^/].*?)(?:\.git)?/?"
)


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What a pull request says."""

    branch: str
    into: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The result of opening a pull request."""

    url: str = ""
    """The pull request's address, or of the page that opens one."""
    problem: str = ""
    """A sentence that says why there is no pull request, or why its text is old."""


@dataclass(frozen=True, slots=True)
class _Program:
    """How to speak to a forge."""

    page: str
    """The page on which a person opens the pull request."""
    find: list[str]
    """Lists the open pull requests of the branch as JSON."""
    address: str
    """The field of that JSON with a pull request's address."""
    number: str
    """The field that tells `edit` which one."""
    create: list[str]
    edit: list[str]

    @property
    def is_there(self) -> bool:
        return shutil.which(self.create[0]) is not None


class _ProgramFailedError(Exception):
    """A forge's program ended badly; says why."""


def open_or_refresh(
    service: Service, wanted: PullRequest, forge: Forge | None, *, is_new: bool
) -> Opened:
    """Open the pull request `wanted`. If it is open and the branch `is_new`, rewrite its text."""
    program = _program(service, wanted, forge)
    if program is None:
        return Opened(
            problem=f"the branch is pushed, but the address of {REMOTE} names no forge: "
            "open its pull request yourself."
        )
    if not program.is_there:
        return Opened(program.page)
    url, doing = program.page, "look up"
    try:
        found = _open(program, service)
        if found is None:
            doing = "open"
            return Opened(_url_in(_said(program.create, service)) or program.page)
        url, doing = one_line(str(found[program.address])), "refresh"
        if is_new:
            _said([*program.edit[:3], str(found[program.number]), *program.edit[3:]], service)
    except _ProgramFailedError as error:
        problem = (
            f"it is pushed, but {program.create[0]} cannot {doing} its pull request: {error}. "
        )
        return Opened(url, problem + "Mend that and run this again, or do it there yourself.")
    return Opened(url)


def is_open(service: Service, branch: str, forge: Forge | None) -> bool:
    """Whether `branch` has an open pull request; True too if nobody here can tell."""
    program = _program(service, PullRequest(branch, "", "", ""), forge)
    if program is None or not program.is_there:
        return True
    try:
        return _open(program, service) is not None
    except _ProgramFailedError:
        return False


def _program(service: Service, wanted: PullRequest, forge: Forge | None) -> _Program | None:
    """None if the remote is at no address of a forge."""
    found = _ADDRESS.fullmatch(_address(service, "remote", "get-url", REMOTE))
    # An address that leads to a mirror on this machine may still be written as the forge's.
    found = found or _ADDRESS.fullmatch(_address(service, "config", f"remote.{REMOTE}.url"))
    if found is None:
        return None
    where = f"https://{found['host']}/{found['path']}"
    is_gitlab = forge == "gitlab" if forge else "gitlab" in found["host"]
    return _gitlab(where, wanted) if is_gitlab else _github(where, wanted)


def _github(where: str, wanted: PullRequest) -> _Program:
    text = ["--title", wanted.title, "--body", wanted.body]
    return _Program(
        page=f"{where}/compare/{quote(wanted.into)}...{quote(wanted.branch)}?expand=1",
        find=[
            "gh",
            "pr",
            "list",
            "--head",
            wanted.branch,
            "--state",
            "open",
            "--json",
            "url,isCrossRepository",
        ],
        address="url",
        number="url",
        create=["gh", "pr", "create", "--head", wanted.branch, "--base", wanted.into, *text],
        edit=["gh", "pr", "edit", *text],
    )


def _gitlab(where: str, wanted: PullRequest) -> _Program:
    query = {
        "merge_request[source_branch]": wanted.branch,
        "merge_request[target_branch]": wanted.into,
    }
    branches = ["--source-branch", wanted.branch, "--target-branch", wanted.into]
    text = ["--title", wanted.title, "--description", wanted.body]
    return _Program(
        page=f"{where}/-/merge_requests/new?{urlencode(query)}",
        find=["glab", "mr", "list", "--source-branch", wanted.branch, "--output", "json"],
        address="web_url",
        number="iid",
        create=["glab", "mr", "create", "--yes", *branches, *text],
        edit=["glab", "mr", "update", *text],
    )


def _open(program: _Program, service: Service) -> dict[str, Any] | None:
    """The open pull request of the branch. A fork's branch may have the same name: not that."""
    said = _said(program.find, service)
    try:
        listed = json.loads(said or "[]")
        own = [
            each
            for each in listed
            if not each.get("isCrossRepository")
            and each.get("source_project_id") == each.get("target_project_id")
        ]
        return own[0] if own and own[0][program.address] and own[0][program.number] else None
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise _ProgramFailedError(
            one_line(f"it says {said!r}, which lists no pull requests")
        ) from error


def _address(service: Service, *command: str) -> str:
    return git.run(*command, folder=service.root).strip()


def _said(command: list[str], service: Service) -> str:
    try:
        with network.bounded():
            done = network.run(command, env=git.environment(), folder=service.root)
    except network.TookTooLongError as error:
        raise _ProgramFailedError(str(error)) from error
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    if done.returncode != 0:
        raise _ProgramFailedError(one_line(err or out) or f"it ended with {done.returncode}")
    return out


def _url_in(text: str) -> str:
    found = re.search(r"https?://\S+", text)
    return one_line(found[0]) if found else ""
