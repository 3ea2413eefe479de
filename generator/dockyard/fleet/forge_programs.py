"""Opens pull requests with `gh` or `glab`, which have tokens of their own.

Knows the two programs; knows no addresses and no templates.
"""

import json
import re
import shutil
from dataclasses import dataclass
from typing import Any

from dockyard.errors import one_line
from dockyard.fleet.apis.port import PullRequest
from dockyard.programs import git, network
from dockyard.service import Service


@dataclass(frozen=True, slots=True)
class Opened:
    """The result of opening a pull request."""

    url: str = ""
    """The pull request's address, or of the page that opens one."""
    problem: str = ""
    """A sentence that says why there is no pull request, or why its text is old."""
    remark: str = ""
    """What was wanted and the forge does not have."""


class _ProgramFailedError(Exception):
    """A forge's program ended badly; says why."""


@dataclass(frozen=True, slots=True)
class Program:
    """How to speak to a forge about one pull request."""

    page: str
    """The page on which a person opens it."""
    find: list[str]
    """Lists the open pull requests of the branch as JSON."""
    address: str
    """The field of that JSON with a pull request's address."""
    number: str
    """The field that tells `edit` which one."""
    create: list[str]
    edit: list[str]

    def open_or_refresh(self, service: Service, *, is_new: bool) -> Opened:
        """Open the pull request. If it is open and the branch `is_new`, rewrite its text."""
        url, doing = self.page, "look up"
        try:
            found = self._open(service)
            if found is None:
                doing = "open"
                return Opened(_url_in(_said(self.create, service)) or self.page)
            url, doing = one_line(str(found[self.address])), "refresh"
            if is_new:
                _said([*self.edit[:3], str(found[self.number]), *self.edit[3:]], service)
        except _ProgramFailedError as error:
            problem = (
                f"it is pushed, but {self.create[0]} cannot {doing} its pull request: {error}. "
            )
            return Opened(url, problem + "Mend that and run this again, or do it there yourself.")
        return Opened(url)

    def is_open(self, service: Service) -> bool:
        """Whether the branch has an open pull request."""
        try:
            return self._open(service) is not None
        except _ProgramFailedError:
            return False

    def _open(self, service: Service) -> dict[str, Any] | None:
        """The open pull request. A fork's branch may have the same name: not that."""
        said = _said(self.find, service)
        try:
            listed = json.loads(said or "[]")
            own = [
                each
                for each in listed
                if not each.get("isCrossRepository")
                and each.get("source_project_id") == each.get("target_project_id")
            ]
            return own[0] if own and own[0][self.address] and own[0][self.number] else None
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            raise _ProgramFailedError(
                one_line(f"it says {said!r}, which lists no pull requests")
            ) from error


def program_for(is_gitlab: bool, wanted: PullRequest, page: str) -> Program | None:
    """The program for `wanted`; None if it is not in PATH."""
    program = (_glab if is_gitlab else _gh)(wanted, page)
    return program if shutil.which(program.create[0]) is not None else None


def _gh(wanted: PullRequest, page: str) -> Program:
    text = ["--title", wanted.title, "--body", wanted.body]
    extras = [word for name in wanted.labels for word in ("--label", name)]
    extras += [word for name in wanted.reviewers for word in ("--reviewer", name)]
    which = ["--head", wanted.branch, "--state", "open", "--json", "url,isCrossRepository"]
    return Program(
        page=page,
        find=["gh", "pr", "list", *which],
        address="url",
        number="url",
        create=[
            *("gh", "pr", "create", "--head", wanted.branch, "--base", wanted.into),
            *(*text, *extras),
        ],
        edit=["gh", "pr", "edit", *text],
    )


def _glab(wanted: PullRequest, page: str) -> Program:
    branches = ["--source-branch", wanted.branch, "--target-branch", wanted.into]
    text = ["--title", wanted.title, "--description", wanted.body]
    extras = [word for name in wanted.labels for word in ("--label", name)]
    extras += [word for name in wanted.reviewers for word in ("--reviewer", name)]
    return Program(
        page=page,
        find=["glab", "mr", "list", "--source-branch", wanted.branch, "--output", "json"],
        address="web_url",
        number="iid",
        create=["glab", "mr", "create", "--yes", *branches, *text, *extras],
        edit=["glab", "mr", "update", *text],
    )


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
