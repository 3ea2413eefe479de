"""Azure DevOps Services. https://learn.microsoft.com/rest/api/azure/devops/git/pull-requests"""

from base64 import b64encode
from typing import Any
from urllib.parse import quote

from dockyard.fleet.apis.http import RefusedError, Server
from dockyard.fleet.apis.port import Checks, Open, PullRequest, summed

_VERSION = "api-version=7.1"
_LONGEST = 4000
"""Letters of a description."""
_STATES = {
    "succeeded": Checks.PASSED,
    "notApplicable": Checks.PASSED,
    "failed": Checks.FAILED,
    "error": Checks.FAILED,
}


class AzureDevOps:
    """One repository, `organisation/project/name`."""

    def __init__(self, base: str, token: str, path: str) -> None:
        credentials = b64encode(f":{token}".encode()).decode()
        self._server = Server(base, {"Authorization": f"Basic {credentials}"})
        organisation, project, name = path.split("/")
        self._home = f"{base}/{quote(organisation)}/{quote(project)}/_git/{quote(name)}"
        self._repository = (
            f"/{quote(organisation)}/{quote(project)}/_apis/git/repositories/{quote(name)}"
        )

    def find(self, branch: str) -> Open | None:
        criteria = {
            "searchCriteria.sourceRefName": f"refs/heads/{branch}",
            "searchCriteria.status": "active",
            "api-version": "7.1",
        }
        found = self._server.get(f"{self._repository}/pullrequests", **criteria)["value"]
        own = [each for each in found if not each.get("forkSource")]
        return self._open(own[0]) if own else None

    def create(self, wanted: PullRequest) -> Open:
        body = {
            "sourceRefName": f"refs/heads/{wanted.branch}",
            "targetRefName": f"refs/heads/{wanted.into}",
            **_text(wanted),
        }
        return self._open(
            self._server.ask("POST", f"{self._repository}/pullrequests?{_VERSION}", body)
        )

    def edit(self, which: Open, wanted: PullRequest) -> None:
        self._server.ask("PATCH", self._path(which), _text(wanted))

    def label(self, which: Open, labels: tuple[str, ...]) -> None:
        for name in labels:
            self._server.ask("POST", self._path(which, "/labels"), {"name": name})

    def ask(self, which: Open, reviewers: tuple[str, ...]) -> None:
        for identity in reviewers:
            path = self._path(which, f"/reviewers/{quote(identity, safe='')}")
            self._server.ask("PUT", path, {"vote": 0})

    def merge_itself(self, which: Open) -> None:
        try:
            body = {
                "autoCompleteSetBy": {"id": which.raw["createdBy"]["id"]},
                "completionOptions": {"deleteSourceBranch": True},
            }
        except KeyError:
            raise RefusedError("it does not say who opened the pull request") from None
        self._server.ask("PATCH", self._path(which), body)

    def checks(self, commit: str) -> Checks:
        path = f"{self._repository}/commits/{commit}/statuses?{_VERSION}&latestOnly=true"
        found = self._server.ask("GET", path)["value"]
        return summed([_STATES.get(each["state"], Checks.RUNNING) for each in found])

    def _path(self, which: Open, more: str = "") -> str:
        return f"{self._repository}/pullrequests/{which.number}{more}?{_VERSION}"

    def _open(self, said: dict[str, Any]) -> Open:
        number = str(said["pullRequestId"])
        merges_itself = bool(said.get("autoCompleteSetBy"))
        return Open(number, f"{self._home}/pullrequest/{number}", merges_itself, said)


def _text(wanted: PullRequest) -> dict[str, str]:
    return {"title": wanted.title, "description": wanted.body[:_LONGEST]}
