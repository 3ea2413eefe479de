"""Bitbucket Cloud. https://developer.atlassian.com/cloud/bitbucket/rest/api-group-pullrequests/"""

from typing import Any
from urllib.parse import quote

from dockyard.fleet.apis.http import Server
from dockyard.fleet.apis.port import Checks, NotOfferedError, Open, PullRequest, summed

_STATES = {"SUCCESSFUL": Checks.PASSED, "FAILED": Checks.FAILED, "STOPPED": Checks.FAILED}


class Bitbucket:
    """One repository, `workspace/name`."""

    def __init__(self, base: str, token: str, path: str) -> None:
        self._server = Server(base, {"Authorization": f"Bearer {token}"})
        self._path = path
        self._repository = f"/repositories/{quote(path)}"

    def find(self, branch: str) -> Open | None:
        query = f'source.branch.name="{branch}" AND state="OPEN"'
        found = self._server.get(f"{self._repository}/pullrequests", q=query)["values"]
        own = [each for each in found if _origin(each) == self._path]
        return _open(own[0]) if own else None

    def create(self, wanted: PullRequest) -> Open:
        body = {
            "title": wanted.title,
            "description": wanted.body,
            "source": {"branch": {"name": wanted.branch}},
            "destination": {"branch": {"name": wanted.into}},
            "close_source_branch": True,
        }
        return _open(self._server.ask("POST", f"{self._repository}/pullrequests", body))

    def edit(self, which: Open, wanted: PullRequest) -> None:
        text = {"title": wanted.title, "description": wanted.body}
        # What is left out of a PUT may be emptied.
        kept = {"reviewers": which.raw["reviewers"]} if which.raw.get("reviewers") else {}
        self._server.ask("PUT", f"{self._repository}/pullrequests/{which.number}", text | kept)

    def label(self, which: Open, labels: tuple[str, ...]) -> None:
        raise NotOfferedError("Bitbucket has no labels")

    def ask(self, which: Open, reviewers: tuple[str, ...]) -> None:
        named = [{"uuid" if name.startswith("{") else "account_id": name} for name in reviewers]
        body = {"title": which.raw["title"], "reviewers": named}
        self._server.ask("PUT", f"{self._repository}/pullrequests/{which.number}", body)

    def merge_itself(self, which: Open) -> None:
        raise NotOfferedError("Bitbucket's API cannot let a pull request merge itself")

    def checks(self, commit: str) -> Checks:
        path = f"{self._repository}/commit/{commit}/statuses"
        found = self._server.get(path, pagelen="100")["values"]
        return summed([_STATES.get(each["state"], Checks.RUNNING) for each in found])


def _origin(said: dict[str, Any]) -> str:
    repository = said["source"].get("repository")
    return str(repository["full_name"]) if repository else ""


def _open(said: dict[str, Any]) -> Open:
    url = str(said["links"]["html"]["href"])
    return Open(str(said["id"]), url, merges_itself=False, raw=said)
