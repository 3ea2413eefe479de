"""What holds for the repository as a whole, whichever part a change is about."""

import json
import os
import re
import shlex
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SOURCES = ("generator/", "template/chassis/", "benchmarks/", "docs/", "monitoring/")

_MACHINE = re.compile(
    r"(?<![\w.])/(?:work|home|Users|tmp|opt)/\w|(?<![\w.])/(?:root)/(?!\.cache/uv)"
)
_INDEX = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|registry\.npmjs\.org|proxy\.golang\.org)", re.IGNORECASE
)
_SUPPRESSED = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma:)")
_REASONED = re.compile(r"# noqa: [A-Z0-9, ]+ - \S|# type: ignore\[[a-z, -]+\] # \S")
_SYNTAX = re.compile(r"\{\{|\{%|\{#")


@cache
def files() -> tuple[str, ...]:
    """Every file of the repository, with the uncommitted ones."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(
        sorted({path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()})
    )


def text(path: str) -> str:
    return (ROOT / path).read_text("utf-8", errors="replace")


def sources() -> list[str]:
    return [path for path in files() if path.endswith(".py") and path.startswith(SOURCES)]


def loaded(path: str) -> dict[str, Any]:
    return tomllib.loads(text(path))


def lines_with(pattern: re.Pattern[str], paths: tuple[str, ...]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(text(path).splitlines(), start=1)
        if pattern.search(line)
    ]


def declared() -> dict[str, list[Requirement]]:
    """The dependencies in each `pyproject.toml`, by the heading of their table in decision 0004."""
    chassis, generator = loaded("template/chassis/pyproject.toml"), loaded("pyproject.toml")

    def of(*groups: list[str]) -> list[Requirement]:
        return [Requirement(one) for group in groups for one in group]

    return {
        "The chassis, in every service": of(chassis["project"]["dependencies"]),
        "The chassis, by extra": of(*chassis["project"]["optional-dependencies"].values()),
        "The generator": of(
            generator["project"]["dependencies"],
            *generator["project"]["optional-dependencies"].values(),
        ),
        "Development of this repository": of(generator["dependency-groups"]["dev"]),
    }


def test_no_file_names_a_path_of_a_machine() -> None:
    assert lines_with(_MACHINE, files()) == []


def test_no_file_names_a_package_index() -> None:
    assert lines_with(_INDEX, files()) == []


def test_the_chassis_holds_no_template_syntax() -> None:
    chassis = tuple(path for path in files() if path.startswith("template/chassis/"))
    assert "template/chassis/src/chassis/handling/consumer.py" in chassis
    assert [path for path in chassis if path.endswith(".jinja")] == []
    assert lines_with(_SYNTAX, chassis) == []


def test_a_source_file_fits_in_the_head() -> None:
    lengths = {path: len(text(path).splitlines()) for path in sources()}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_a_module_says_what_it_is_for() -> None:
    modules = [path for path in files() if path.endswith(".py") and text(path)]
    assert [path for path in modules if not text(path).startswith('"""')] == []


def test_a_suppression_carries_its_reason() -> None:
    suppressions = lines_with(_SUPPRESSED, sources())
    assert suppressions
    assert [line for line in suppressions if not _REASONED.search(line)] == []


def test_an_action_is_pinned_by_its_full_commit() -> None:
    workflows = [path for path in files() if "/workflows/" in path]
    assert len(workflows) >= 2
    used = [
        line
        for path in workflows
        for line in text(path).splitlines()
        if "uses:" in line and "uses: ./" not in line
    ]
    assert used
    assert [
        line for line in used if not re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d", line)
    ] == []


def test_an_action_has_one_version_here_and_in_the_template() -> None:
    workflows = tuple(path for path in files() if "/workflows/" in path)
    used = {
        use
        for path in workflows
        for use in re.findall(r"uses: ([\w/-]+@[0-9a-f]{40} # \S+)", text(path))
    }
    assert len(used) == len({use.split("@")[0] for use in used}), sorted(used)


def test_renovate_reads_what_names_a_version_in_the_template() -> None:
    config = json.loads(text("renovate.json"))
    patterns = {
        manager: [
            re.compile(pattern.strip("/")) for pattern in config[manager]["managerFilePatterns"]
        ]
        for manager in ("github-actions", "dockerfile")
    }
    for path in files():
        if path.startswith("template/.github/workflows/"):
            assert any(pattern.search(path) for pattern in patterns["github-actions"]), path
    assert any(
        pattern.search("template/deploy/Dockerfile.jinja") for pattern in patterns["dockerfile"]
    )
    assert "template/deploy/Dockerfile.jinja" in files()


def test_a_workflow_has_no_permission_that_a_job_does_not_name() -> None:
    for path in files():
        if path.startswith(".github/workflows/"):
            assert yaml.safe_load(text(path))["permissions"] == {}, path


def test_what_ci_runs_can_be_run() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)
    subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT, check=True)
    lines = re.findall(r"^(?:alone|side_by_side) (.+)$", text(".ci/run"), re.MULTILINE)
    targets = {words.split()[0] for line in lines for words in shlex.split(line)}
    assert targets == {"setup", "check", "recording", "manifests", "test", "proofs"}
    assert targets <= set(re.findall(r"^(\w+):", text("Makefile"), re.MULTILINE))


def test_ci_has_every_program_that_the_tests_start_and_skips_no_image() -> None:
    job = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["run"]
    (programs, everything, image) = [step["run"] for step in job["steps"] if "run" in step]
    assert "apt-get" not in programs, "tests/brokers/binaries.py is the one list"
    assert re.fullmatch(r"sudo python3 -B -m tests\.brokers\.binaries", programs)
    assert ".ci/run" in everything
    assert re.fullmatch(r"sudo DOCKYARD_REQUIRE_IMAGE=1 \.venv/bin/pytest tests/image", image)


def test_a_release_is_checked_and_built_with_nothing_that_is_not_pinned() -> None:
    commands = [step["run"] for step in release_steps("check") if "run" in step]
    lines = [line.strip() for command in commands for line in command.splitlines()]
    assert lines[0].startswith("make setup")
    assert [line for line in lines if re.search(r"\buvx\b|uv tool|uv run|--with\b", line)] == []
    assert [
        line for line in lines if "uv build" in line and "--no-build-isolation" not in line
    ] == []
    assert [
        line
        for line in lines
        if "pip install" in line and "--constraint requirements-dev.txt" not in line
    ] == []


def test_a_release_has_its_bill_of_materials_scanned_and_attested() -> None:
    steps = release_steps("check")
    names = [step.get("uses", step.get("run", "")) for step in steps]
    wanted = ["uv build", "uv pip install", "sbom-action", "scan-action", "upload-artifact"]
    order = [next(number for number, name in enumerate(names) if part in name) for part in wanted]
    assert order == sorted(order)
    bill = steps[order[2]]["with"]["output-file"]
    assert steps[order[3]]["with"]["sbom"] == bill
    attested = [
        step["with"]
        for step in release_steps("publish")
        if "actions/attest@" in step.get("uses", "")
    ]
    assert bill in [one.get("sbom-path") for one in attested]
    assert "dist/*.spdx.json" in release_steps("publish")[-1]["run"]


def release_steps(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(text(".github/workflows/release.yml"))["jobs"][
        job
    ]["steps"]
    return found


def test_what_is_pinned_is_scanned_on_changes_and_every_week() -> None:
    ci = yaml.load(text(".github/workflows/ci.yml"), yaml.BaseLoader)  # noqa: S506 - keeps `on` a word
    assert {"push", "pull_request", "schedule"} <= ci["on"].keys()
    (scan,) = [
        step for step in ci["jobs"]["dependencies"]["steps"] if "scan-action" in step["uses"]
    ]
    assert scan["with"]["path"] == "."


def test_every_file_has_somebody_who_is_asked_to_review_it() -> None:
    rules = [
        line
        for line in text(".github/CODEOWNERS").splitlines()
        if line and not line.startswith("#")
    ]
    assert re.fullmatch(r"\* +@[\w-]+/[\w-]+", rules[0])


def test_make_says_what_it_can_do() -> None:
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # as a user calls it
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, env=outside, capture_output=True, text=True, check=True
    ).stdout
    phony = re.findall(r"^\.PHONY: ([\w-]+)$", text("Makefile"), re.MULTILINE)
    assert phony
    assert [line.split()[1] for line in shown.splitlines()] == phony


@pytest.mark.parametrize("heading", sorted(declared()))
def test_every_dependency_has_its_reason(heading: str) -> None:
    page = text("docs/decisions/0004-dependencies.md")
    table = page.partition(f"### {heading}\n")[2].partition("\n#")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for cell in first_cells for name in re.findall(r"`([\w-]+)`", cell)}
    assert named == {requirement.name for requirement in declared()[heading]}


def test_every_dependency_is_pinned_within_its_range() -> None:
    pins = dict(re.findall(r"^([\w-]+)==([^\s;]+)", text("requirements-dev.txt"), re.MULTILINE))
    for requirement in (one for group in declared().values() for one in group):
        if requirement.name != "dockyard-chassis":
            assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_the_changelog_has_a_place_for_what_is_new() -> None:
    assert re.search(r"^## Unreleased$", text("CHANGELOG.md"), re.MULTILINE)


def test_the_licence_is_the_one_that_the_packages_name() -> None:
    assert "Apache License" in text("LICENSE").splitlines()[0]
    for path in ("pyproject.toml", "template/chassis/pyproject.toml"):
        assert loaded(path)["project"]["license"] == "Apache-2.0"
