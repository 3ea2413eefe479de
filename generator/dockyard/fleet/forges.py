"""Offers a pushed branch to its reviewers: a pull request by `gh` or `glab`, else the page that opens one.

Knows the two programs and the addresses of forges; pushes nothing and knows nothing of templates.
"""

import json
import re
import shutil
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from dockyard.errors import one_line
from dockyard.fleet.roster import Forge
from dockyard.programs import git, network
from dockyard.service import Service

REMOTE = "origin"
_ADDRESS = re.compile(
    r"(?:\w[\w+.-]*://)?(?:[^@/]+@)?(?P<host>[^/:]+)(?::\d+(?=/))?[:/](?P<path>[^/].*?)(?:\.git)?/?"
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a pull request is to say."""

    branch: str
    into: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What became of a request."""

    url: str = ""
    """Of the pull request, or of the page that opens one."""
    problem: str = ""
    """Why there is no pull request, or an old text in it; a sentence."""


@dataclass(frozen=True, slots=True)
class _Program:
    """How a forge is spoken to."""

    page: str
    """Where a person opens the pull request."""
    find: list[str]
    """Lists the open pull requests of the branch as JSON."""
    address: str
    """The field of that JSON with a pull request's address."""
    number: str
    """The field by which `edit` knows it."""
    create: list[str]
    edit: list[str]

    @property
    def is_there(self) -> bool:
        return shutil.which(self.create[0]) is not None


class _ProgramFailedError(Exception):
    """A forge's program ended badly; says why."""


def offer(service: Service, request: Request, forge: Forge | None, *, is_new: bool) -> Offer:
    """Open a pull request for `request`, or when one is open and `is_new` is what was pushed, say there what is new."""
    program = _program(service, request, forge)
    if program is None:
        return Offer(
            problem=f"it is pushed, but {REMOTE} is at no address of a forge: open its pull request yourself."
        )
    if not program.is_there:
        return Offer(program.page)
    url, doing = program.page, "tell whether there is"
    try:
        found = _open(program, service)
        if found is None:
            doing = "open"
            return Offer(_url_in(_said(program.create, service)) or program.page)
        url, doing = one_line(str(found[program.address])), "refresh"
        if is_new:
            _said([*program.edit[:3], str(found[program.number]), *program.edit[3:]], service)
    except _ProgramFailedError as error:
        problem = (
            f"it is pushed, but {program.create[0]} cannot {doing} its pull request: {error}. "
        )
        return Offer(url, problem + "Mend that and run this again, or do it there yourself.")
    return Offer(url)


def is_offered(service: Service, branch: str, forge: Forge | None) -> bool:
    """Whether `branch` has all that `offer` could give it: an open pull request, where that can be known."""
    program = _program(service, Request(branch, "", "", ""), forge)
    if program is None or not program.is_there:
        return True
    try:
        return _open(program, service) is not None
    except _ProgramFailedError:
        return False


def _program(service: Service, request: Request, forge: Forge | None) -> _Program | None:
    """None when the remote is at no address of a forge."""
    found = _ADDRESS.fullmatch(_address(service, "remote", "get-url", REMOTE))
    # What leads to a mirror on this machine may still be written as the forge's address.
    found = found or _ADDRESS.fullmatch(_address(service, "config", f"remote.{REMOTE}.url"))
    if found is None:
        return None
    where = f"https://{found['host']}/{found['path']}"
    is_gitlab = forge == "gitlab" if forge else "gitlab" in found["host"]
    return _gitlab(where, request) if is_gitlab else _github(where, request)


def _github(where: str, request: Request) -> _Program:
    text = ["--title", request.title, "--body", request.body]
    return _Program(
        page=f"{where}/compare/{quote(request.into)}...{quote(request.branch)}?expand=1",
        find=[
            "gh",
            "pr",
            "list",
            "--head",
            request.branch,
            "--state",
            "open",
            "--json",
            "url,isCrossRepository",
        ],
        address="url",
        number="url",
        create=["gh", "pr", "create", "--head", request.branch, "--base", request.into, *text],
        edit=["gh", "pr", "edit", *text],
    )


def _gitlab(where: str, request: Request) -> _Program:
    query = {
        "merge_request[source_branch]": request.branch,
        "merge_request[target_branch]": request.into,
    }
    branches = ["--source-branch", request.branch, "--target-branch", request.into]
    text = ["--title", request.title, "--description", request.body]
    return _Program(
        page=f"{where}/-/merge_requests/new?{urlencode(query)}",
        find=["glab", "mr", "list", "--source-branch", request.branch, "--output", "json"],
        address="web_url",
        number="iid",
        create=["glab", "mr", "create", "--yes", *branches, *text],
        edit=["glab", "mr", "update", *text],
    )


def _open(program: _Program, service: Service) -> dict[str, Any] | None:
    """The open pull request of the branch; one from a fork, whose branch has the same name, is another one."""
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
