"""GitHub and GitHub Enterprise. https://docs.github.com/en/rest/pulls"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from dockyard.fleet.apis.http import RefusedError, Server
from dockyard.fleet.apis.port import Checks, Open, PullRequest, summed

_AUTO_MERGE = (
    "mutation($id: ID!) { enablePullRequestAutoMerge(input: {pullRequestId: $id}) "
    "{ pullRequest { id } } }"
)
_GOOD = {"success", "neutral", "skipped"}


class Pulls:
    """What the APIs of GitHub and Gitea have in common for the repository `owner/name`."""

    def __init__(self, server: Server, path: str, opened: Callable[[dict[str, Any]], Open]) -> None:
        self._server = server
        self._repository = f"/repos/{quote(path)}"
        self._opened = opened

    def create(self, wanted: PullRequest) -> Open:
        text = {"title": wanted.title, "body": wanted.body}
        branches = {"head": wanted.branch, "base": wanted.into}
        said = self._server.ask("POST", f"{self._repository}/pulls", text | branches)
        return self._opened(said)

    def edit(self, which: Open, wanted: PullRequest) -> None:
        text = {"title": wanted.title, "body": wanted.body}
        self._server.ask("PATCH", f"{self._repository}/pulls/{which.number}", text)

    def ask(self, which: Open, reviewers: tuple[str, ...]) -> None:
        teams = [name.partition("/")[2] for name in reviewers if "/" in name]
        people = [name for name in reviewers if "/" not in name]
        path = f"{self._repository}/pulls/{which.number}/requested_reviewers"
        self._server.ask("POST", path, {"reviewers": people, "team_reviewers": teams})


class GitHub(Pulls):
    """One repository, `owner/name`."""

    def __init__(self, base: str, token: str, path: str) -> None:
        said = {"Authorization": f"Bearer {token}", "X-GitHub-Api-Version": "2022-11-28"}
        super().__init__(Server(base, said), path, _open)
        self._owner = path.partition("/")[0]

    def find(self, branch: str) -> Open | None:
        head = f"{self._owner}:{branch}"
        found = self._server.get(f"{self._repository}/pulls", state="open", head=head)
        return _open(found[0]) if found else None

    def label(self, which: Open, labels: tuple[str, ...]) -> None:
        path = f"{self._repository}/issues/{which.number}/labels"
        self._server.ask("POST", path, {"labels": list(labels)})

    def merge_itself(self, which: Open) -> None:
        base = self._server.base.removesuffix("/v3")
        body = {"query": _AUTO_MERGE, "variables": {"id": which.raw["node_id"]}}
        said = self._server.ask("POST", "/graphql", body, base=base)
        if said.get("errors"):
            raise RefusedError("; ".join(str(each.get("message")) for each in said["errors"]))

    def checks(self, commit: str) -> Checks:
        runs = self._server.get(f"{self._repository}/commits/{commit}/check-runs", per_page="100")
        states = [_state_of_run(run) for run in runs["check_runs"]]
        status = self._server.get(f"{self._repository}/commits/{commit}/status")
        if status["statuses"]:
            states.append(_STATES.get(status["state"], Checks.RUNNING))
        return summed(states)


_STATES = {"success": Checks.PASSED, "failure": Checks.FAILED, "error": Checks.FAILED}


def _state_of_run(run: dict[str, Any]) -> Checks:
    if run["status"] != "completed":
        return Checks.RUNNING
    return Checks.PASSED if run["conclusion"] in _GOOD else Checks.FAILED


def _open(said: dict[str, Any]) -> Open:
    return Open(str(said["number"]), str(said["html_url"]), bool(said.get("auto_merge")), said)
