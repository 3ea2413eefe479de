"""Pushes an update's branch to its reviewers, with a pull request if one is wanted.

Knows git remotes and what a reviewer wants to know; `forges` knows how pull requests are opened.
"""

import re

from dockyard.commands import Updated
from dockyard.errors import DockyardError, one_line
from dockyard.fleet.apis.port import PullRequest
from dockyard.fleet.base import REMOTE
from dockyard.fleet.branches import is_before
from dockyard.fleet.forge_programs import Opened
from dockyard.fleet.forges import open_or_refresh
from dockyard.fleet.roster import Member
from dockyard.programs import git, network
from dockyard.programs.tree import shown
from dockyard.service import Service
from dockyard.updating.apply import Committed, branches_of, is_dockyards

_LONGEST_DIFF = 30_000
"""Letters; a forge refuses a text of more than about 65,000."""


class CannotPush(DockyardError):
    """The update is committed, but the remote refuses the push."""

    def __init__(self, branch: str, reason: str) -> None:
        super().__init__(
            f"the update is on {branch}, but cannot be pushed: {one_line(reason)}. "
            "Mend that and run this again."
        )


class CannotWithdraw(DockyardError):
    """The update is pushed, and the branch of an earlier one cannot be deleted."""

    def __init__(self, branch: str, reason: str) -> None:
        super().__init__(
            f"{branch} is pushed, but the branch of an earlier update cannot be deleted: "
            f"{one_line(reason)}. Delete it yourself, or mend that and run this again."
        )


def publish(member: Member, into: str, done: Updated, *, with_pull_request: bool) -> Opened:
    """Push the update's branch, and delete the pushed branches of earlier updates.

    The pull request goes into the branch `into`.

    Raises CannotPush and CannotWithdraw. A branch on which people worked is not overwritten.
    """
    service, committed = done.service, done.committed
    assert committed is not None  # noqa: S101 - only what is on a branch is pushed
    branch = committed.branch
    is_new = _push(service, committed)
    try:
        _withdraw(service, done)
    except git.GitFailed as error:
        raise CannotWithdraw(branch, error.reason) from error
    if not with_pull_request:
        return Opened()
    text, review = description(done), member.review
    wanted = PullRequest(
        branch, into, subject(done), text, labels=review.labels, reviewers=review.reviewers
    )
    return open_or_refresh(service, wanted, member, is_new=is_new)


def subject(done: Updated) -> str:
    """The title of a pull request."""
    way = done.plans[-1].step
    return (
        f"Update {done.service.name} from template {way.recorded.version} to {way.target.version}"
    )


def description(done: Updated) -> str:
    """The text of a pull request: the release notes, new answers, what was merged, the diff."""
    lines = []
    for plan in done.plans:
        lines += [plan.notes, ""] if plan.notes else []
        lines += [
            f"- answers `{question.name}` with `{question.answer}`"
            for question in plan.new_questions
        ]
        lines += [
            f"- merged with the service's own changes: `{shown(f.path)}`"
            for f in plan.merge.files
            if f.state == "merged"
        ]
    return "\n".join([*lines, "", *_difference(done), "Made by `dockyard fleet update`."]).strip()


def _difference(done: Updated) -> list[str]:
    """What the update changes, folded away; the files alone if it is too long to read there."""
    if done.committed is None:
        return []
    env, root = git.isolated_environment(), done.service.root
    ends = (done.service.head, done.committed.commit)
    how = ("diff-tree", "-r", "--no-color", "--find-renames")
    files = git.run(*how, "--stat=100", *ends, folder=root, env=env).strip()
    patch = git.run(*how, "--patch", *ends, folder=root, env=env).strip()
    text = patch if len(patch) <= _LONGEST_DIFF else files[:_LONGEST_DIFF]
    fence = max((len(run) for run in re.findall("`+", text)), default=0) + 1
    fence_line = "`" * max(3, fence)
    summary = shown(files.splitlines()[-1].strip()) if files else "no file changes"
    return [
        "<details>",
        f"<summary>{summary}</summary>",
        "",
        f"{fence_line}diff",
        text.encode("utf-8", "replace").decode(),
        fence_line,
        "</details>",
        "",
    ]


def _push(service: Service, committed: Committed) -> bool:
    """Push the branch; whether the remote did not have it before."""
    branch = committed.branch
    try:
        there = _listed(service, branch).get(branch, "")
        if there and not _is_ours(service, branch, there):
            raise CannotPush(branch, f"it has commits in {REMOTE} that Dockyard did not make")
        _send(service, branch, there, committed.commit)
    except git.GitFailed as error:
        raise CannotPush(branch, error.reason) from error
    return there != committed.commit


def _withdraw(service: Service, done: Updated) -> None:
    """Delete the pushed branches of earlier updates, unless people worked on them."""
    target = done.plans[-1].step.target
    for branch, there in _listed(service, f"{branches_of(service)}*").items():
        if is_before(service, branch, target) and _is_ours(service, branch, there):
            _send(service, branch, there, "")


def _listed(service: Service, pattern: str) -> dict[str, str]:
    """Branches in the remote, with their commits."""
    told = _remote(service, "ls-remote", REMOTE, f"refs/heads/{pattern}")
    pairs = (line.split("\t") for line in told.splitlines())
    return {ref.removeprefix("refs/heads/"): commit for commit, ref in pairs}


def _is_ours(service: Service, branch: str, tip: str) -> bool:
    fetch = ("fetch", "--quiet", "--no-write-fetch-head", REMOTE, f"refs/heads/{branch}")
    _remote(service, *fetch)
    return is_dockyards(service, tip)


def _send(service: Service, branch: str, there: str, commit: str) -> None:
    """Make the remote's branch `commit`, or delete it; only what was seen there is replaced."""
    ref = f"refs/heads/{branch}"
    lease = f"--force-with-lease={ref}:{there}"
    _remote(service, "push", "--quiet", "--no-verify", lease, REMOTE, f"{commit}:{ref}")


def _remote(service: Service, *command: str) -> str:
    with network.bounded():
        return git.run(*command, folder=service.root)
