"""A partial clone updates like a whole one: missing objects are fetched, or the error says why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

Clone = Callable[..., Made]


@pytest.fixture
def clone(service: Made, evolving: Repository, into: Path) -> Clone:
    """A clone, of which options leave something with its remote."""
    text = LINES.replace("line 19\n", "line 19, ours\n")
    service.write({"Makefile": text, "src/main.py": "ours\n", "tool.ini": None})
    newer = LINES.replace("line 2\n", "line 2, newer\n")
    services.release(evolving, {"template/Makefile": newer}, "v1.1.0")
    git(service.root, "config", "uploadpack.allowFilter", "true")
    git(service.root, "config", "uploadpack.allowAnySHA1InWant", "true")

    def made(*options: str) -> Made:
        url = service.root.as_uri()
        shutil.rmtree(into / "clone", ignore_errors=True)
        target = into / "clone/billing-svc"
        git(into, "clone", "--quiet", "--no-checkout", *options, url, str(target))
        git(target, "sparse-checkout", "set", "--no-cone", "/src", "/.copier-answers.yml")
        git(target, "checkout", "--quiet", "trunk")
        return Made(target)

    return made


@pytest.mark.parametrize("left_out", ["blob:none", "tree:0"])
def test_every_command_says_of_a_partial_clone_what_it_says_of_a_whole_one(
    dockyard: Dockyard, clone: Clone, left_out: str
) -> None:
    commands = (
        ["check", "--json"],
        ["diff"],
        ["diff", "--to", "v1.1.0"],
        ["update", "--dry-run", "--json"],
    )
    whole = clone()
    expected = {
        command[0] + command[-1]: dockyard(command[0], whole.root, *command[1:])
        for command in commands
    }

    for command in commands:
        part = clone(f"--filter={left_out}")

        assert dockyard(command[0], part.root, *command[1:]) == expected[command[0] + command[-1]]


def test_a_partial_clone_is_updated_on_a_branch(dockyard: Dockyard, clone: Clone) -> None:
    part = clone("--filter=blob:none")

    ran = dockyard("update", part.root, "--json")

    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["outcome"] == "committed"
    merged = git(part.root, "show", "dockyard/v1.1.0:Makefile")
    assert "line 2, newer\n" in merged
    assert "line 19, ours\n" in merged


def test_what_cannot_be_fetched_is_said_with_a_remedy(
    dockyard: Dockyard, clone: Clone, service: Made
) -> None:
    part = clone("--filter=blob:none")
    service.root.rename(service.root.with_name("elsewhere"))

    ran = dockyard("update", part.root)

    assert ran.code == 2
    assert f"{part.root} is a partial clone and lacks an object that is needed" in ran.err
    assert "`git fetch --refetch --no-filter origin`" in ran.err
