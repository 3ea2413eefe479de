"""Hands an update's branch to the people who review it: pushed, and offered as a pull request.

Knows git remotes, and `gh` and `glab` when they are there; knows nothing of templates.
"""

import re
import shutil
import subprocess
from urllib.parse import quote, urlencode

from dockyard import git
from dockyard.apply import Committed, is_dockyards
from dockyard.errors import CannotPush, CannotWithdraw, one_line
from dockyard.fleet.branches import is_before
from dockyard.lifecycle import Updated
from dockyard.service import Service
from dockyard.tree import shown

_REMOTE = "origin"
_ADDRESS = re.compile(r"(?:\w[\w+.-]*://)?(?:[^@/]+@)?(?P<host>[^/:]+)(?::\d+(?=/))?[:/](?P<path>[^/].*?)(?:\.git)?/?")


def publish(service: Service, committed: Committed, done: Updated, *, offer: bool) -> str:
    """Push the update's branch and take back those of earlier ones.

    With `offer`, the address of its pull request or of the page that opens one, else empty.

    Raises CannotPush and CannotWithdraw; a branch on which people have worked there is not overwritten.
    """
    branch = committed.branch
    _push(service, committed)
    try:
        _withdraw(service, done)
    except git.GitFailed as error:
        raise CannotWithdraw(branch, error.reason) from error
    if not offer:
        return ""
    found = _ADDRESS.fullmatch(_address(service, "remote", "get-url", _REMOTE))
    # What leads to a mirror on this machine may still be written as the forge's address.
    found = found or _ADDRESS.fullmatch(_address(service, "config", f"remote.{_REMOTE}.url"))
    if found is None:
        return ""
    host, path = found["host"], found["path"]
    into = _default_branch(service)
    title, body = subject(done), description(done)
    if "gitlab" in host:
        page = _gitlab_page(host, path, branch, into)
        create = ["glab", "mr", "create", "--yes", "--source-branch", branch, "--title", title, "--description", body]
        view = ["glab", "mr", "view", branch]
    else:
        page = f"https://{host}/{path}/compare/{quote(into)}...{quote(branch)}?expand=1"
        create = ["gh", "pr", "create", "--head", branch, "--base", into, "--title", title, "--body", body]
        view = ["gh", "pr", "view", branch, "--json", "url", "--jq", ".url"]
    if shutil.which(create[0]) is None:
        return page
    return _url_in(_run(view, service)) or _url_in(_run(create, service)) or page


def subject(done: Updated) -> str:
    """The title of a pull request."""
    way = done.plans[-1].step
    return f"Update {done.service.name} from template {way.recorded.version} to {way.target.version}"


def description(done: Updated) -> str:
    """What a reviewer wants to know: the release notes, new answers, what was merged."""
    lines = []
    for plan in done.plans:
        lines += [plan.notes, ""] if plan.notes else []
        lines += [f"- answers `{question.name}` with `{question.answer}`" for question in plan.new_questions]
        lines += [
            f"- merged with the service's own changes: `{shown(f.path)}`"
            for f in plan.merge.files
            if f.state == "merged"
        ]
    return "\n".join([*lines, "", "Made by `dockyard fleet update`."]).strip()


def _address(service: Service, *command: str) -> str:
    return git.run(*command, folder=service.root).strip()


def _push(service: Service, committed: Committed) -> None:
    branch = committed.branch
    try:
        there = _listed(service, branch).get(branch, "")
        if there and not _is_ours(service, branch, there):
            raise CannotPush(branch, f"people have worked on it in {_REMOTE}")
        _send(service, branch, there, committed.commit)
    except git.GitFailed as error:
        raise CannotPush(branch, error.reason) from error


def _withdraw(service: Service, done: Updated) -> None:
    """Delete the pushed branches of earlier updates, unless people have worked on them."""
    for branch, there in _listed(service, f"dockyard/{service.prefix}*").items():
        if is_before(service, branch, done.plans[-1].step.target) and _is_ours(service, branch, there):
            _send(service, branch, there, "")


def _listed(service: Service, pattern: str) -> dict[str, str]:
    """Branches in the remote and the commits that they are at."""
    told = git.run("ls-remote", _REMOTE, f"refs/heads/{pattern}", folder=service.root, env=git.environment())
    pairs = (line.split("\t") for line in told.splitlines())
    return {ref.removeprefix("refs/heads/"): commit for commit, ref in pairs}


def _is_ours(service: Service, branch: str, tip: str) -> bool:
    ref = f"refs/heads/{branch}"
    git.run("fetch", "--quiet", "--no-write-fetch-head", _REMOTE, ref, folder=service.root, env=git.environment())
    return is_dockyards(service, tip)


def _send(service: Service, branch: str, there: str, commit: str) -> None:
    """Make the remote's branch `commit`, or delete it; only what was seen there is replaced."""
    ref = f"refs/heads/{branch}"
    lease = f"--force-with-lease={ref}:{there}"
    git.run(
        *("push", "--quiet", "--no-verify", lease, _REMOTE, f"{commit}:{ref}"),
        folder=service.root,
        env=git.environment(),
    )


def _default_branch(service: Service) -> str:
    try:
        name = git.run("rev-parse", "--abbrev-ref", f"{_REMOTE}/HEAD", folder=service.root).strip()
    except git.GitFailed:
        return "main"
    return name.removeprefix(f"{_REMOTE}/")


def _gitlab_page(host: str, path: str, branch: str, into: str) -> str:
    query = urlencode({"merge_request[source_branch]": branch, "merge_request[target_branch]": into})
    return f"https://{host}/{path}/-/merge_requests/new?{query}"


def _run(command: list[str], service: Service) -> str:
    done = subprocess.run(  # noqa: S603 - fixed programs; arguments never pass a shell
        command,
        cwd=service.root,
        env=git.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else ""


def _url_in(text: str) -> str:
    found = re.search(r"https?://\S+", text)
    return one_line(found[0]) if found else ""
