"""A template with a release, and a folder of services that grows as a test wants it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

NEWER = {
    "template/Makefile": LINES.replace("line 2\n", "line 2, newer\n"),
    "template/added.txt": "added\n",
}
NEWEST = {"template/Makefile": LINES.replace("line 2\n", "line 2, newest\n")}
IN_CONFLICT = {"Makefile": LINES.replace("line 2\n", "line 2, ours\n")}
DRIFTED = {"Makefile": LINES.replace("line 19\n", "line 19, ours\n")}


@dataclass(frozen=True, slots=True)
class Fleet:
    """A folder of services of one template."""

    template: Repository
    folder: Path

    def add(
        self, name: str, changed: Mapping[str, str | None] | None = None, ref: str = "v1.0.0"
    ) -> Made:
        """A service of the version `ref`, with commits of its team if it `changed` something."""
        made = services.lay_down_service(
            self.template, self.folder / name, ref, service_name=Path(name).name
        )
        if changed:
            made.write(changed)
        return made

    def release(self) -> None:
        """Release v1.1.0, which conflicts with IN_CONFLICT and merges with DRIFTED."""
        services.release(self.template, NEWER, "v1.1.0")

    def release_again(self) -> None:
        """Release v1.2.0."""
        services.release(self.template, NEWEST, "v1.2.0")


@pytest.fixture(scope="session", autouse=True)
def _sockets() -> None:
    """Let multiprocessing make the folder of its sockets outside any test's own folder."""
    get_temp_dir()


@pytest.fixture
def fleet(tmp_path: Path, home: Path) -> Fleet:
    """No service yet, and a template released as v1.0.0."""
    template, folder = tmp_path / "template", tmp_path / "fleet"
    for path in (template, folder):
        path.mkdir()
    git(template, "init", "--quiet")
    made = Repository(template)
    services.release(made, services.FILES, "v1.0.0")
    return Fleet(made, folder)


def rows(
    dockyard: Dockyard, command: str, *arguments: str | Path, code: int
) -> dict[str, dict[str, Any]]:
    """The services of `dockyard fleet COMMAND --json` by name; it must end with `code`."""
    ran = dockyard("fleet", command, *arguments, "--json", "--jobs", "1")
    assert ran.code == code, ran.out + ran.err
    said = json.loads(ran.out)
    assert (said["command"], said["exit_code"]) == (f"fleet {command}", code)
    return {row["name"]: row for row in said["services"]}


def states(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The state of each service."""
    return {name: row["state"] for name, row in found.items()}


def branches(service: Made) -> list[str]:
    """The branches of updates in a service."""
    return git(
        service.root, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/dockyard/"
    ).splitlines()
