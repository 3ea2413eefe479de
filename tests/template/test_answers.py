"""Wrong answers are refused with a sentence; every accepted answer renders to valid files."""

import json
import keyword
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
import yaml

from tests.template import lab

KEBAB = "must be kebab-case"
ONE_SEGMENT = "must be one protobuf package segment"
REGISTRY = "must be a registry host"
REPOSITORY = "must be an http or https URL with a path"
ONE_LINE = "must be one line of 1 to 200 printable characters"
SHADOWS = "would shadow or clash with the Python name"


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"service_name": "Billing"}, KEBAB),
        ({"service_name": "billing_svc"}, KEBAB),
        ({"service_name": "2billing"}, KEBAB),
        ({"service_name": "billing--svc"}, KEBAB),
        ({"service_name": "billing-svc\n"}, KEBAB),
        ({"service_name": "bílling"}, KEBAB),
        ({"service_name": "../billing"}, KEBAB),
        ({"service_name": "b" * 41}, KEBAB),
        ({"service_name": ""}, KEBAB),
        ({"service_name": "json"}, f"{SHADOWS} json: choose another name, such as json-svc"),
        ({"service_name": "chassis"}, SHADOWS),
        ({"service_name": "google"}, SHADOWS),
        ({"service_name": "test"}, SHADOWS),
        ({"service_name": "prometheus-client"}, f"{SHADOWS} prometheus_client"),
        ({"service_name": "class"}, SHADOWS),
        (
            {"service_name": "import-svc"},
            "a package called import, a name that Python or protobuf keeps for itself",
        ),
        ({"service_name": "google-service"}, "a package called google"),
        ({"description": ""}, ONE_LINE),
        ({"description": "two\nlines"}, ONE_LINE),
        ({"description": "a tab\tin it"}, ONE_LINE),
        ({"description": "deleted\x7f"}, ONE_LINE),
        ({"description": "line separator\u2028"}, ONE_LINE),
        ({"description": "x" * 201}, ONE_LINE),
        ({"owner": "Team Payments"}, KEBAB),
        ({"owner": 'team"'}, KEBAB),
        ({"owner": "{{ 1 }}"}, KEBAB),
        ({"owner": ""}, KEBAB),
        ({"organisation": "Acme"}, ONE_SEGMENT),
        ({"organisation": "acme.shop"}, ONE_SEGMENT),
        ({"organisation": "acme-shop"}, ONE_SEGMENT),
        ({"organisation": "acme\n"}, ONE_SEGMENT),
        ({"organisation": "o" * 31}, ONE_SEGMENT),
        ({"organisation": "google"}, SHADOWS),
        ({"organisation": "redis"}, SHADOWS),
        ({"organisation": "tests"}, SHADOWS),
        ({"organisation": "billing_svc"}, "must differ from the service's package"),
        ({"bus": "kafka"}, "Invalid choice"),
        ({"inbox": "mysql"}, "Invalid choice"),
        ({"python_version": "3.9"}, "Invalid choice"),
        ({"image_registry": "https://registry.example.com"}, REGISTRY),
        ({"image_registry": "registry.example.com/"}, REGISTRY),
        ({"image_registry": "registry.example.com/Acme"}, REGISTRY),
        ({"image_registry": 'registry.example.com/"$(id)'}, REGISTRY),
        ({"repository_url": "git.example.com/acme/billing-svc"}, REPOSITORY),
        ({"repository_url": "https://git.example.com"}, REPOSITORY),
        ({"repository_url": "https://git.example.com/acme/billing-svc/"}, REPOSITORY),
        ({"repository_url": "https://git.example.com/a: {{ b }}"}, REPOSITORY),
    ],
)
def test_a_bad_answer_is_refused_with_what_is_allowed(
    render: lab.Render, answers: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        render(**answers)


def test_the_command_line_shows_the_sentence_and_leaves_nothing(
    template: Path, tmp_path: Path
) -> None:
    target = tmp_path / "billing"
    done = lab.copier("copy", "--data", "service_name=Billing Svc", template, target, cwd=tmp_path)
    assert done.returncode == 1
    assert KEBAB in done.stdout
    assert not target.exists()


@pytest.mark.parametrize("computed", ["package=pay", "domain=pay", "yours=[]"])
def test_what_is_computed_cannot_be_set(template: Path, tmp_path: Path, computed: str) -> None:
    done = lab.copier("copy", "--data", computed, template, tmp_path / "example-svc", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot be set" in done.stdout


@pytest.mark.parametrize(
    "description",
    [
        'She said "hello"',
        "it's",
        r"C:\new\table \u00e9 \"",
        "{{ service_name }} {% raw %} {# no comment #}",
        "key: value # no comment",
        "- [list](of) *things* | & ! % @ `x`",
        "Größe: 日本語 und 🚢",
        "'''\"\"\"",
        "$HOME $(id) ${VERSION}",
    ],
)
def test_any_one_line_description_arrives_unchanged(render: lab.Render, description: str) -> None:
    folder = render(description=description)
    assert (
        tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]["description"]
        == description
    )
    assert (
        yaml.safe_load((folder / ".copier-answers.yml").read_text("utf-8"))["description"]
        == description
    )
    assert description in (folder / "README.md").read_text("utf-8").splitlines()


@pytest.mark.parametrize("version", lab.QUESTIONS["python_version"]["choices"])
def test_the_image_and_the_pipeline_use_the_chosen_python(render: lab.Render, version: str) -> None:
    folder = render(python_version=version)
    assert f"python:{version}-slim" in (folder / "deploy/Dockerfile").read_text("utf-8")
    assert (
        yaml.safe_load((folder / ".github/workflows/ci.yml").read_text("utf-8"))["env"]["UV_PYTHON"]
        == version
    )


@pytest.mark.parametrize("bus", lab.QUESTIONS["bus"]["choices"].values())
@pytest.mark.parametrize("inbox", lab.QUESTIONS["inbox"]["choices"].values())
def test_the_dependencies_are_those_of_the_bus_and_the_inbox(
    render: lab.Render, bus: str, inbox: str
) -> None:
    folder = render(bus=bus, inbox=inbox)
    (dependency,) = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"][
        "dependencies"
    ]
    extras = dependency.removeprefix("dockyard-chassis[").removesuffix("]").split(",")
    assert sorted(extras) == sorted({bus, inbox.removesuffix("-kv")})


def test_every_question_has_help_and_a_default_and_is_checked() -> None:
    asked = {
        name: question
        for name, question in lab.QUESTIONS.items()
        if not name.startswith("_") and question.get("when") is not False
    }
    assert len(asked) >= 10  # a fork adds its own
    for name, question in asked.items():
        assert question["help"], name
        assert question["default"] not in ("", None), name
        bounded = question["type"] == "bool" or question.get("choices")
        assert bounded or question.get("validator"), name


def test_no_module_of_the_standard_library_may_be_shadowed() -> None:
    reserved = lab.QUESTIONS["reserved_modules"]["default"].split()
    possible = {
        name
        for name in sys.stdlib_module_names
        if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
    }
    assert possible <= set(reserved)


def test_no_module_that_the_chassis_depends_on_may_be_shadowed() -> None:
    project = tomllib.loads((lab.ROOT / "template/chassis/pyproject.toml").read_text("utf-8"))[
        "project"
    ]
    requirements = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    distributions = {
        re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")
        for requirement in requirements
    }
    modules = {
        module
        for module, owners in packages_distributions().items()
        if distributions & {owner.lower().replace("_", "-") for owner in owners}
    }
    assert {"aiohttp", "nats", "google"} <= modules
    assert {
        module for module in modules if module.isidentifier() and not module.startswith("_")
    } <= set(lab.QUESTIONS["reserved_modules"]["default"].split())


def test_no_keyword_may_be_part_of_a_module_name() -> None:
    reserved = lab.QUESTIONS["reserved_words"]["default"].split()
    assert {word for word in keyword.kwlist if word.islower()} <= set(reserved)


def test_the_recorded_answers_are_the_questions_alone(rendered: Path) -> None:
    answers = yaml.safe_load((rendered / ".copier-answers.yml").read_text("utf-8"))
    asked = {
        name
        for name, question in lab.QUESTIONS.items()
        if name[0] != "_" and question.get("when") is not False
    }
    assert answers.keys() == asked | {"_commit", "_src_path"}
    assert json.dumps(answers)  # plain values: nothing that only Python could read back
