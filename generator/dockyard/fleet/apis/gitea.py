"""Gitea and Forgejo. https://docs.gitea.com/api/"""

from typing import Any
from urllib.parse import quote

from dockyard.fleet.apis.github import people_and_teams
from dockyard.fleet.apis.http import RefusedError, Server
from dockyard.fleet.apis.port import Checks, Open, PullRequest

_STATES = {
    "success": Checks.PASSED,
    "warning": Checks.PASSED,
    "failure": Checks.FAILED,
    "error": Checks.FAILED,
}
_PAGE = 50


class Gitea:
    """One repository, `owner/name`."""

    def __init__(self, base: str, token: str, path: str) -> None:
        self._server = Server(base, {"Authorization": f"token {token}"})
        self._repository = f"/repos/{quote(path)}"

    def find(self, branch: str) -> Open | None:
        number = 1
        found: list[dict[str, Any]] = [{}] * _PAGE
        while len(found) == _PAGE:
            query = {"state": "open", "limit": str(_PAGE), "page": str(number)}
            found = self._server.get(f"{self._repository}/pulls", **query)
            for each in found:
                head, base = each["head"], each["base"]
                if head["ref"] == branch and head["repo_id"] == base["repo_id"]:
                    return _open(each)
            number += 1
        return None

    def create(self, wanted: PullRequest) -> Open:
        text = {"title": wanted.title, "body": wanted.body}
        branches = {"head": wanted.branch, "base": wanted.into}
        return _open(self._server.ask("POST", f"{self._repository}/pulls", text | branches))

    def edit(self, which: Open, wanted: PullRequest) -> None:
        text = {"title": wanted.title, "body": wanted.body}
        self._server.ask("PATCH", f"{self._repository}/pulls/{which.number}", text)

    def label(self, which: Open, labels: tuple[str, ...]) -> None:
        known = self._server.get(f"{self._repository}/labels", limit=str(_PAGE))
        ids = {each["name"]: each["id"] for each in known}
        if unknown := [name for name in labels if name not in ids]:
            raise RefusedError(f"it has no label {unknown[0]}")
        path = f"{self._repository}/issues/{which.number}/labels"
        self._server.ask("POST", path, {"labels": [ids[name] for name in labels]})

    def ask(self, which: Open, reviewers: tuple[str, ...]) -> None:
        path = f"{self._repository}/pulls/{which.number}/requested_reviewers"
        self._server.ask("POST", path, people_and_teams(reviewers))

    def merge_itself(self, which: Open) -> None:
        body = {"Do": "merge", "merge_when_checks_succeed": True}
        self._server.ask("POST", f"{self._repository}/pulls/{which.number}/merge", body)

    def checks(self, commit: str) -> Checks:
        said = self._server.get(f"{self._repository}/commits/{commit}/status")
        if not said.get("total_count"):
            return Checks.ABSENT
        return _STATES.get(said["state"], Checks.RUNNING)


def _open(said: dict[str, Any]) -> Open:
    # Gitea does not tell whether it merges by itself; asked a second time it refuses.
    return Open(str(said["number"]), str(said["html_url"]), merges_itself=False, raw=said)
