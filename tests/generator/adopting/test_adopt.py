"""A service without an answers file is found again: its version, its answers, its drift."""

import json
from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository
from tests.generator.services import LINES, Made

ANSWERS_FILE = ".copier-answers.yml"
CHOICES = """\
bus:
  type: str
  default: rabbitmq
  choices: {RabbitMQ: rabbitmq, NATS: nats}
metrics: {type: bool, default: true}
"""
FILES: dict[str, str | bytes | None] = {
    "copier.yml": services.QUESTIONS + CHOICES,
    "template/bus.ini.jinja": (
        "# of the platform\nbus = {{ bus }}\nmetrics = {{ metrics }}\nowner = {{ owner }}\n"
    ),
}


@pytest.fixture
def releases(evolving: Repository) -> Repository:
    """Releases v1.1.0, v1.2.0 and v1.3.0, the first of them with choices."""
    services.release(evolving, FILES, "v1.1.0")
    services.release(
        evolving, {"template/Makefile": LINES.replace("line 2\n", "line two\n")}, "v1.2.0"
    )
    services.release(
        evolving, {"template/Makefile": f"{LINES}line 21\n", "template/logo.png": None}, "v1.3.0"
    )
    return evolving


@pytest.fixture
def lost(releases: Repository, into: Path) -> tuple[Made, str]:
    """A service of v1.2.0 that its team worked on, its answers file deleted, and what that said."""
    made = services.lay_down_service(
        releases,
        into / "billing",
        "v1.2.0",
        service_name="ledger-svc",
        owner="payments",
        bus="nats",
        metrics="false",
    )
    said = (made.root / ANSWERS_FILE).read_text("utf-8")
    edits: dict[str, str | bytes | None] = {
        "tool.ini": (made.root / "tool.ini").read_text("utf-8") + "ours\n",
        "old.cfg": None,
        "renamed.cfg": f"old\n{LINES}",
        "src/main.py": "name = 'ledger-svc'\nmore = 1\n",
        ANSWERS_FILE: None,
    }
    made.write(edits)
    return made, said


def test_the_version_and_the_answers_of_an_edited_service_are_found_exactly(
    dockyard: Dockyard, releases: Repository, lost: tuple[Made, str]
) -> None:
    made, said = lost
    ran = dockyard("adopt", made.root, "--template", releases.path, "--json")
    assert ran.code == 0, ran.err
    assert (made.root / ANSWERS_FILE).read_text("utf-8") == said
    found = json.loads(ran.out)
    assert found["found"]["version"] == "v1.2.0"
    assert [file["path"] for file in found["drifted"]] == ["old.cfg", "tool.ini"]
    assert found["equal_files"] == found["managed_files"] - 2


def test_an_adopted_service_is_checked_and_updated_as_any_other(
    dockyard: Dockyard, releases: Repository, lost: tuple[Made, str]
) -> None:
    made, _ = lost
    assert dockyard("adopt", made.root, "--template", releases.path).code == 0
    made.write({}, "adopted")
    assert dockyard("check", made.root).code == 1
    ran = dockyard("update", made.root, "--in-place")
    assert ran.code == 0, ran.out + ran.err
    assert (made.root / "Makefile").read_text("utf-8") == f"{LINES}line 21\n"
    assert (made.root / "tool.ini").read_text("utf-8").endswith("ours\n")


def test_a_dry_run_writes_nothing(
    dockyard: Dockyard, releases: Repository, lost: tuple[Made, str]
) -> None:
    made, _ = lost
    before = made.state()
    ran = dockyard("adopt", made.root, "--template", releases.path, "--dry-run")
    assert (ran.code, made.state()) == (0, before)
    assert "v1.2.0" in ran.out


def test_a_known_answer_is_not_searched(
    dockyard: Dockyard, releases: Repository, lost: tuple[Made, str]
) -> None:
    made, _ = lost
    arguments = ("--template", releases.path, "--dry-run", "--json", "--data", "owner=somebody")
    ran = dockyard("adopt", made.root, *arguments)
    assert json.loads(ran.out)["answers"]["owner"] == "somebody"


def test_without_releases_the_commits_are_searched(
    dockyard: Dockyard, repository: Repository, into: Path
) -> None:
    (repository.path / "template/release.txt").write_text("two\nlines\n")
    wanted = repository.commit({})
    made = services.lay_down_service(repository, into / "billing-svc", wanted, bus="nats")
    repository.commit({"template/release.txt": "three\nother\nlines\n"})
    made.write({ANSWERS_FILE: None})
    ran = dockyard("adopt", made.root, "--template", repository.path, "--json")
    assert json.loads(ran.out)["found"]["commit"] == wanted


def test_a_valid_answers_file_is_replaced_only_when_forced(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    ran = dockyard("adopt", service.root, "--template", evolving.path)
    assert ran.code == 2
    assert "--force" in ran.err
    assert dockyard("adopt", service.root, "--template", evolving.path, "--force").code == 0


def test_a_broken_answers_file_is_replaced(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    said = (service.root / ANSWERS_FILE).read_text("utf-8")
    service.write({ANSWERS_FILE: "<<<<<<< ours\n"})
    assert dockyard("adopt", service.root, "--template", evolving.path).code == 0
    assert (service.root / ANSWERS_FILE).read_text("utf-8") == said


def test_what_resembles_nothing_is_refused(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    strange = dict.fromkeys(("Makefile", "tool.ini", "old.cfg", "logo.png", ANSWERS_FILE))
    service.write({**strange, "main.go": "package main\n"})
    before = service.state()
    ran = dockyard("adopt", service.root, "--template", evolving.path)
    assert ran.code == 2
    assert "does not look like a service of" in ran.err
    assert service.state() == before


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_is_shown_how_far_the_comparing_is(
    dockyard: Dockyard,
    releases: Repository,
    lost: tuple[Made, str],
    monkeypatch: pytest.MonkeyPatch,
    is_terminal: bool,
) -> None:
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")

    ran = dockyard("adopt", lost[0].root, "--template", releases.path, "--json")

    assert ran.code == 0, ran.err
    assert (
        "comparing versions" in ran.err.replace("comparing versions and answers", "")
    ) == is_terminal
    assert json.loads(ran.out)["candidates"] == 4
