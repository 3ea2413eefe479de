"""Gitea and Forgejo. https://docs.gitea.com/api/"""

from typing import Any

from dockyard.fleet.apis.github import Pulls
from dockyard.fleet.apis.http import RefusedError, Server
from dockyard.fleet.apis.port import Checks, Open

_STATES = {
    "success": Checks.PASSED,
    "warning": Checks.PASSED,
    "failure": Checks.FAILED,
    "error": Checks.FAILED,
}
_PAGE = 50


class Gitea(Pulls):
    """One repository, `owner/name`."""

    def __init__(self, base: str, token: str, path: str) -> None:
        super().__init__(Server(base, {"Authorization": f"token {token}"}), path, _open)

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

    def label(self, which: Open, labels: tuple[str, ...]) -> None:
        known = self._server.get(f"{self._repository}/labels", limit=str(_PAGE))
        ids = {each["name"]: each["id"] for each in known}
        if unknown := [name for name in labels if name not in ids]:
            raise RefusedError(f"it has no label {unknown[0]}")
        path = f"{self._repository}/issues/{which.number}/labels"
        self._server.ask("POST", path, {"labels": [ids[name] for name in labels]})

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
