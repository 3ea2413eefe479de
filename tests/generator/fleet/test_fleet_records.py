"""What `--json` prints of a fleet is what the published schema says; what a dry run lists."""

from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.fleet.conftest import DRIFTED, IN_CONFLICT, Fleet, rows
from tests.generator.lab import Dockyard
from tests.generator.updating.test_records import assert_is_record

ASKING = {
    "copier.yml": services.QUESTIONS + "region: {type: str, default: eu, help: Where it runs.}\n"
}


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["check"],
        ["update", "--dry-run"],
        ["update"],
        ["diff"],
        ["diff", "--to", "v1.2.0"],
    ],
)
def test_a_record_of_a_fleet_is_as_its_schema_says(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path, command: list[str]
) -> None:
    for name, changed in (("calm-svc", {}), ("drifted-svc", DRIFTED), ("torn-svc", IN_CONFLICT)):
        fleet.add(name, changed)
    (fleet.add("broken-svc").root / ".copier-answers.yml").write_text("[")
    fleet.release()
    services.release(fleet.template, ASKING, "v1.2.0")

    ran = dockyard("fleet", command[0], fleet.folder, *command[1:], "--json", "--jobs", "1")

    record = assert_is_record(ran.out, "fleet-diff" if command[0] == "diff" else "fleet", tmp_path)
    assert [each["name"] for each in record["services"]] == [
        "broken-svc",
        "calm-svc",
        "drifted-svc",
        "torn-svc",
    ]
    assert record["exit_code"] == ran.code == 1
    if command[0] == "diff":
        patches = {each["name"]: each["patch"] for each in record["services"]}
        assert "b/drifted-svc/Makefile" in patches["drifted-svc"]
        assert record["services"][0]["message"]


@pytest.mark.parametrize("command", [["status"], ["update", "--dry-run"]])
def test_new_questions_are_listed_with_what_they_would_be_answered(
    dockyard: Dockyard, fleet: Fleet, command: list[str]
) -> None:
    fleet.add("a-svc")
    services.release(fleet.template, ASKING, "v1.1.0")

    found = rows(dockyard, command[0], fleet.folder, *command[1:], code=0)["a-svc"]

    asked = {
        "name": "region",
        "answer": "eu",
        "given": False,
        "carried": [],
        "help": "Where it runs.",
    }
    assert found["new_questions"] == [asked]
    assert "a-svc: new question region = 'eu'" in dockyard("fleet", command[0], fleet.folder).out
