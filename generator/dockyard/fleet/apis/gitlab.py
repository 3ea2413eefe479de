"""GitLab. https://docs.gitlab.com/api/merge_requests/"""

from typing import Any
from urllib.parse import quote

from dockyard.fleet.apis.http import RefusedError, Server
from dockyard.fleet.apis.port import Checks, Open, PullRequest

_STATES = {
    "success": Checks.PASSED,
    "skipped": Checks.PASSED,
    "failed": Checks.FAILED,
    "canceled": Checks.FAILED,
}


class GitLab:
    """One project, by its path."""

    def __init__(self, base: str, token: str, path: str) -> None:
        self._server = Server(base, {"PRIVATE-TOKEN": token})
        self._project = f"/projects/{quote(path, safe='')}"

    def find(self, branch: str) -> Open | None:
        path = f"{self._project}/merge_requests"
        found = self._server.get(path, state="opened", source_branch=branch)
        own = [each for each in found if each["source_project_id"] == each["target_project_id"]]
        return _open(own[0]) if own else None

    def create(self, wanted: PullRequest) -> Open:
        body = {
            "source_branch": wanted.branch,
            "target_branch": wanted.into,
            "title": wanted.title,
            "description": wanted.body,
            "remove_source_branch": True,
        }
        return _open(self._server.ask("POST", f"{self._project}/merge_requests", body))

    def edit(self, which: Open, wanted: PullRequest) -> None:
        self._change(which, {"title": wanted.title, "description": wanted.body})

    def label(self, which: Open, labels: tuple[str, ...]) -> None:
        self._change(which, {"add_labels": ",".join(labels)})

    def ask(self, which: Open, reviewers: tuple[str, ...]) -> None:
        self._change(which, {"reviewer_ids": [self._user(name) for name in reviewers]})

    def merge_itself(self, which: Open) -> None:
        path = f"{self._project}/merge_requests/{which.number}/merge"
        self._server.ask("PUT", path, {"merge_when_pipeline_succeeds": True})

    def checks(self, commit: str) -> Checks:
        found = self._server.get(f"{self._project}/pipelines", sha=commit, order_by="id")
        return _STATES.get(found[0]["status"], Checks.RUNNING) if found else Checks.ABSENT

    def _change(self, which: Open, body: dict[str, object]) -> None:
        self._server.ask("PUT", f"{self._project}/merge_requests/{which.number}", body)

    def _user(self, name: str) -> int:
        found = self._server.get("/users", username=name)
        if not found:
            raise RefusedError(f"it has no user {name}")
        return int(found[0]["id"])


def _open(said: dict[str, Any]) -> Open:
    merges_itself = bool(said.get("merge_when_pipeline_succeeds"))
    return Open(str(said["iid"]), str(said["web_url"]), merges_itself, said)
