"""What `--json` prints is what the published schema says: every field, and no other."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository
from tests.generator.services import LINES, Made

SCHEMA = Path(__file__).parents[3] / "docs/reference/records.schema.json"
NEWER: dict[str, str | bytes | None] = {
    "copier.yml": f"{services.QUESTIONS}region: {{type: str, default: eu}}\n",
    "template/Makefile": LINES.replace("line 2\n", "line 2, newer\n"),
    "template/src/seeded.py": "seeded\n",
}


def unknown(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """Fields of `value` that `schema` does not have."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for each in value:
            yield from unknown(each, schema["items"], definitions)
    elif isinstance(value, dict) and "properties" in schema:
        yield from (key for key in value if key not in schema["properties"])
        for key, below in schema["properties"].items():
            yield from unknown(value.get(key), below, definitions)


def assert_is_record(printed: str, name: str, scratch: Path) -> dict[str, Any]:
    """What was `printed`, which must be what the schema calls `name`."""
    (scratch / "record.json").write_text(printed)
    check = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--schemafile",
        str(SCHEMA),
        str(scratch / "record.json"),
    ]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    definitions = json.loads(SCHEMA.read_text("utf-8"))["$defs"]
    record: dict[str, Any] = json.loads(printed)
    assert list(unknown(record, definitions[name], definitions)) == []
    return record


@pytest.mark.parametrize(
    "command",
    [
        ["update", "--dry-run"],
        ["update", "--in-place"],
        ["update", "--step"],
        ["update", "--to", "v1.0.0"],
        ["check"],
        ["diff"],
        ["diff", "--to", "v1.1.0"],
        ["restore"],
        ["adopt", "--force"],
    ],
    ids=" ".join,
)
def test_a_record_is_as_its_schema_says(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path, command: list[str]
) -> None:
    service.write({"Makefile": LINES.replace("line 2\n", "line 2, ours\n"), "old.cfg": None})
    services.release(evolving, NEWER, "v1.1.0")

    template = ["--template", str(evolving.path)] if command[0] == "adopt" else []
    ran = dockyard(command[0], service.root, *command[1:], *template, "--json")

    record = assert_is_record(ran.out, command[0], tmp_path)
    assert record.get("exit_code", 0) == ran.code
    assert ("exit_code" in record) == (command[0] in {"update", "check", "diff"})


def test_the_schema_refuses_what_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"schema": 1, "command": "check"}')
    check = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--schemafile",
        str(SCHEMA),
        str(tmp_path / "record.json"),
    ]

    assert subprocess.run(check, capture_output=True, check=False).returncode == 1
