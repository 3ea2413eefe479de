"""GitHub and GitHub Enterprise. https://docs.github.com/en/rest/pulls"""

from typing import Any
from urllib.parse import quote

from dockyard.fleet.apis.http import RefusedError, Server
from dockyard.fleet.apis.port import Checks, Open, PullRequest, summed

_AUTO_MERGE = (
    "mutation($id: ID!) { enablePullRequestAutoMerge(input: {pullRequestId: $id}) "
    "{ pullRequest { id } } }"
)
_GOOD = {"success", "neutral", "skipped"}


class GitHub:
    """One repository, `owner/name`."""

    def __init__(self, base: str, token: str, path: str) -> None:
        self._server = Server(
            base,
            {"Authorization": f"Bearer {token}", "X-GitHub-Api-Version": "2022-11-28"},
        )
        self._owner = path.partition("/")[0]
        self._repository = f"/repos/{quote(path)}"

    def find(self, branch: str) -> Open | None:
        head = f"{self._owner}:{branch}"
        found = self._server.get(f"{self._repository}/pulls", state="open", head=head)
        return _open(found[0]) if found else None

    def create(self, wanted: PullRequest) -> Open:
        text = {"title": wanted.title, "body": wanted.body}
        branches = {"head": wanted.branch, "base": wanted.into}
        return _open(self._server.ask("POST", f"{self._repository}/pulls", text | branches))

    def edit(self, which: Open, wanted: PullRequest) -> None:
        text = {"title": wanted.title, "body": wanted.body}
        self._server.ask("PATCH", f"{self._repository}/pulls/{which.number}", text)

    def label(self, which: Open, labels: tuple[str, ...]) -> None:
        path = f"{self._repository}/issues/{which.number}/labels"
        self._server.ask("POST", path, {"labels": list(labels)})

    def ask(self, which: Open, reviewers: tuple[str, ...]) -> None:
        path = f"{self._repository}/pulls/{which.number}/requested_reviewers"
        self._server.ask("POST", path, people_and_teams(reviewers))

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


def people_and_teams(reviewers: tuple[str, ...]) -> dict[str, list[str]]:
    """The reviewers as GitHub and Gitea take them."""
    teams = [name.partition("/")[2] for name in reviewers if "/" in name]
    return {"reviewers": [name for name in reviewers if "/" not in name], "team_reviewers": teams}


def _state_of_run(run: dict[str, Any]) -> Checks:
    if run["status"] != "completed":
        return Checks.RUNNING
    return Checks.PASSED if run["conclusion"] in _GOOD else Checks.FAILED


def _open(said: dict[str, Any]) -> Open:
    return Open(str(said["number"]), str(said["html_url"]), bool(said.get("auto_merge")), said)
