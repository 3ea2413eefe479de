"""Hands an update's branch to the people who review it: pushed, and offered as a pull request.

Knows git remotes and what a reviewer wants to know; `offer` knows the forges' programs.
"""

from dockyard.commands import Updated
from dockyard.errors import CannotPush, CannotWithdraw
from dockyard.fleet.branches import is_before
from dockyard.fleet.forges import REMOTE, Offer, Request, offer
from dockyard.fleet.roster import Member
from dockyard.programs import git, network
from dockyard.programs.tree import shown
from dockyard.service import Service
from dockyard.updating.apply import Committed, is_dockyards, room_of


def publish(member: Member, committed: Committed, done: Updated, *, is_offered: bool) -> Offer:
    """Push the update's branch and take back those of earlier ones; with `is_offered` as a pull request too.

    Raises CannotPush and CannotWithdraw; a branch on which people have worked there is not overwritten.
    """
    service, branch = done.service, committed.branch
    is_new = _push(service, committed)
    try:
        _withdraw(service, done)
    except git.GitFailed as error:
        raise CannotWithdraw(branch, error.reason) from error
    if not is_offered:
        return Offer()
    request = Request(
        branch, member.branch or _default_branch(service), subject(done), description(done)
    )
    return offer(service, request, member.forge, is_new=is_new)


def subject(done: Updated) -> str:
    """The title of a pull request."""
    way = done.plans[-1].step
    return (
        f"Update {done.service.name} from template {way.recorded.version} to {way.target.version}"
    )


def description(done: Updated) -> str:
    """What a reviewer wants to know: the release notes, new answers, what was merged."""
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
    return "\n".join([*lines, "", "Made by `dockyard fleet update`."]).strip()


def _push(service: Service, committed: Committed) -> bool:
    """Whether the remote did not have it before."""
    branch = committed.branch
    try:
        there = _listed(service, branch).get(branch, "")
        if there and not _is_ours(service, branch, there):
            raise CannotPush(branch, f"people have worked on it in {REMOTE}")
        _send(service, branch, there, committed.commit)
    except git.GitFailed as error:
        raise CannotPush(branch, error.reason) from error
    return there != committed.commit


def _withdraw(service: Service, done: Updated) -> None:
    """Delete the pushed branches of earlier updates, unless people have worked on them."""
    for branch, there in _listed(service, f"{room_of(service)}*").items():
        if is_before(service, branch, done.plans[-1].step.target) and _is_ours(
            service, branch, there
        ):
            _send(service, branch, there, "")


def _listed(service: Service, pattern: str) -> dict[str, str]:
    """Branches in the remote and the commits that they are at."""
    with network.bounded():
        told = git.run(
            "ls-remote", REMOTE, f"refs/heads/{pattern}", folder=service.root, env=git.environment()
        )
    pairs = (line.split("\t") for line in told.splitlines())
    return {ref.removeprefix("refs/heads/"): commit for commit, ref in pairs}


def _is_ours(service: Service, branch: str, tip: str) -> bool:
    ref = f"refs/heads/{branch}"
    with network.bounded():
        git.run(
            "fetch",
            "--quiet",
            "--no-write-fetch-head",
            REMOTE,
            ref,
            folder=service.root,
            env=git.environment(),
        )
    return is_dockyards(service, tip)


def _send(service: Service, branch: str, there: str, commit: str) -> None:
    """Make the remote's branch `commit`, or delete it; only what was seen there is replaced."""
    ref = f"refs/heads/{branch}"
    lease = f"--force-with-lease={ref}:{there}"
    with network.bounded():
        git.run(
            *("push", "--quiet", "--no-verify", lease, REMOTE, f"{commit}:{ref}"),
            folder=service.root,
            env=git.environment(),
        )


def _default_branch(service: Service) -> str:
    try:
        name = git.run("rev-parse", "--abbrev-ref", f"{REMOTE}/HEAD", folder=service.root).strip()
    except git.GitFailed:
        return "main"
    return name.removeprefix(f"{REMOTE}/")
