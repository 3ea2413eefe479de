"""A render consists of valid files and the unchanged chassis, without the template's syntax."""

import json
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from chassis.settings import load
from tests.template import lab

NAMES = [
    {"service_name": "billing-svc"},
    {"service_name": "welcome-svc"},  # sorts after signup
    {"service_name": "signup-service"},  # its own contracts and those it consumes share a package
    {"service_name": "svc"},
    {"service_name": "v1-svc", "organisation": "v1"},
    {"service_name": "a10-svc", "organisation": "a2"},
    {"service_name": "message-svc", "organisation": "option"},  # words that protobuf has a use for
    {"service_name": "b" * 36 + "-svc", "organisation": "o" * 30},
    {"service_name": "zebra", "organisation": "z_z"},
]


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@pytest.mark.parametrize("answers", NAMES, ids=lambda answers: answers["service_name"])
def test_code_and_contracts_are_clean_whatever_the_name(
    render: lab.Render, answers: dict[str, str]
) -> None:
    folder = render(**answers)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "RUFF_NO_CACHE": "true"}
    for command in (
        [_tool("ruff"), "check"],
        [_tool("ruff"), "format", "--check"],
        [_tool("buf"), "lint"],
        [_tool("buf"), "format", "--diff", "--exit-code"],
        [_tool("buf"), "generate"],
    ):
        lab.run(command, folder, environment)
    package = answers["service_name"].replace("-", "_")
    domain = re.sub("_(svc|service)$", "", package)
    organisation = answers.get("organisation", "acme")
    assert (folder / f"gen/{organisation}/{domain}/v1/signup_handled_pb2.py").is_file()
    assert (folder / f"gen/{organisation}/signup/v1/user_signed_up_pb2.pyi").is_file()


def test_the_chassis_in_a_service_is_the_chassis_of_the_template(
    template: Path, rendered: Path
) -> None:
    written = {path.removeprefix("template/"): data for path, data in lab.tree(template).items()}
    chassis = {
        path: data for path, data in lab.tree(rendered).items() if path.startswith("chassis/")
    }
    assert "chassis/src/chassis/contracts/envelope.py" in chassis
    assert chassis == {path: data for path, data in written.items() if path.startswith("chassis/")}


def test_a_render_of_these_tests_is_what_copier_renders_of_the_whole_template(
    render: lab.Render, rendered: Path
) -> None:
    folder = render()
    lab.git(folder, "init", "--quiet")
    made, whole = lab.tree(folder), lab.tree(rendered)
    for files in (made, whole):
        del files[".copier-answers.yml"]  # it names the template
    assert made == whole


def test_the_chassis_carries_no_template_syntax() -> None:
    assert [
        path
        for path in lab.template_files()
        if "/chassis/" in path and ("{" in path or path.endswith(".jinja"))
    ] == []


def test_nothing_of_the_template_language_is_left(rendered: Path) -> None:
    for path, data in lab.tree(rendered).items():
        if path.startswith(
            ("chassis/", "deploy/chart/")
        ):  # charts and alerts have braces of their own
            continue
        text = re.sub(r"\$\{\{.*?\}\}", "", data.decode())  # expressions of GitHub's workflows
        assert not re.search(r"\{\{|\}\}|\{%|%\}|\{#", text), path
        assert not re.search(r"[{}]|\.jinja", path)


def test_every_file_ends_with_one_newline_and_no_line_with_a_blank(rendered: Path) -> None:
    for path, data in lab.tree(rendered).items():
        text = data.decode()
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), path
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), path


def test_yaml_and_toml_can_be_read(rendered: Path) -> None:
    files = lab.tree(rendered)
    assert {"pyproject.toml", "ruff.toml", "buf.yaml", ".github/workflows/ci.yml"} <= files.keys()
    for path, data in files.items():
        if path.endswith((".yaml", ".yml")) and not path.startswith("deploy/chart/templates/"):
            assert all(isinstance(document, dict) for document in yaml.safe_load_all(data)), path
        elif path.endswith(".toml"):
            assert tomllib.loads(data.decode()), path


def test_the_python_of_the_image_binds_nobody_else(rendered: Path) -> None:
    assert not (rendered / ".python-version").exists()
    assert (
        tomllib.loads((rendered / "pyproject.toml").read_text("utf-8"))["project"][
            "requires-python"
        ]
        == ">=3.11"
    )


def test_settings_of_tools_are_not_in_the_teams_pyproject(rendered: Path) -> None:
    assert tomllib.loads((rendered / "pyproject.toml").read_text("utf-8"))["tool"].keys() == {
        "hatch",
        "uv",
    }


def test_the_chassis_never_comes_from_an_index(rendered: Path) -> None:
    uv = tomllib.loads((rendered / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]
    assert uv["sources"]["dockyard-chassis"] == {"workspace": True}
    assert uv["workspace"]["members"] == ["chassis"]


@pytest.mark.parametrize("bus", lab.QUESTIONS["bus"]["choices"].values())
@pytest.mark.parametrize("inbox", lab.QUESTIONS["inbox"]["choices"].values())
def test_the_settings_of_each_environment_start_the_chassis(
    render: lab.Render, bus: str, inbox: str
) -> None:
    folder = render(bus=bus, inbox=inbox)
    for environment in ("dev", "staging", "prod"):
        values = yaml.safe_load((folder / f"deploy/values-{environment}.yaml").read_text("utf-8"))
        inbox_url = {"nats-kv": "nats://n", "redis": "redis://r", "postgres": "postgresql://p"}[
            inbox
        ]
        secrets = {
            "CHASSIS_BUS_URL": {"rabbitmq": "amqp://r", "nats": "nats://n"}[bus],
            "CHASSIS_INBOX_URL": inbox_url,
        }
        settings = load(
            values["env"] | {name: secrets[name] for name in values.get("secretEnv", ())}
        )
        assert settings.bus.startswith({"rabbitmq": "amqp://", "nats": "nats://"}[bus])
        assert settings.inbox.startswith(
            {"nats-kv": "nats://", "redis": "redis://", "postgres": "postgresql://"}[inbox]
        )


def test_the_team_owns_what_it_edits_and_nothing_else(rendered: Path) -> None:
    assert lab.yours(lab.tree(rendered)) == {
        ".github/CODEOWNERS",
        ".gitignore",
        ".pre-commit-config.yaml",
        "README.md",
        "catalog-info.yaml",
        "contracts/acme/billing/v1/signup_handled.proto",
        "contracts/acme/signup/v1/user_signed_up.proto",
        "deploy/values-dev.yaml",
        "deploy/values-prod.yaml",
        "deploy/values-staging.yaml",
        "docs/decisions/0001-where-events-and-claims-are-kept.md",
        "docs/decisions/README.md",
        "docs/decisions/form.md",
        "pyproject.toml",
        "src/billing_svc/__init__.py",
        "src/billing_svc/__main__.py",
        "src/billing_svc/handlers.py",
        "src/billing_svc/py.typed",
        "tests/smoke/user_signed_up.json",
        "tests/test_handlers.py",
    }


def test_every_managed_file_says_so_in_its_first_line(rendered: Path) -> None:
    beginnings = (b"# Managed", b"<!-- Managed", b"{{- /* Managed")
    for path, data in lab.managed(lab.tree(rendered)).items():
        if path.endswith(".json"):
            if (
                path != "deploy/chart/files/dashboard.json"
            ):  # Grafana shows its description to people
                assert json.loads(data)["description"].startswith("Managed."), path
        elif not path.startswith("chassis/"):
            assert data.startswith(beginnings), path


def test_the_dockerfile_passes_its_linter(rendered: Path) -> None:
    lab.run([_tool("hadolint"), "--failure-threshold", "style", "deploy/Dockerfile"], rendered)


def test_the_template_needs_no_trust() -> None:
    forbidden = {"_tasks", "_migrations", "_jinja_extensions", "_external_data"}
    assert forbidden.isdisjoint(lab.QUESTIONS)


def test_unfinished_names_are_errors_not_blanks(tmp_path: Path) -> None:
    lab.lay_down_template(tmp_path)
    (tmp_path / "template/typo.txt.jinja").write_text("{{ service_nam }}\n", "utf-8")
    lab.commit_all(tmp_path, "a typing mistake")
    done = lab.copier("copy", tmp_path, tmp_path / "out", cwd=tmp_path)
    assert done.returncode != 0
    assert "service_nam" in done.stdout


def test_copier_tells_what_to_try_next(template: Path, tmp_path: Path) -> None:
    done = lab.copier(
        "copy",
        "--data",
        "service_name=billing-svc",
        template,
        tmp_path / "billing-svc",
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert re.search(r"make setup.*make dev.*make test", done.stdout, re.DOTALL)
