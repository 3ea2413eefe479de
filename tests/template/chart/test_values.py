"""The schema and the defaults describe every value in the same words; `make chart` tries them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.template import lab
from tests.template.chart.charts import OPERATORS, Chart

_COMMENT = re.compile(r"(?P<indent> *)# (?P<words>.*)")
_KEY = re.compile(r"(?P<indent> *)(?P<name>[\w-]+):")


def schema_of(chart: Chart) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((chart.path / "values.schema.json").read_text("utf-8"))
    return loaded


def described(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Every value with its description; a group without one stands for what is in it."""
    for name, below in schema["properties"].items():
        if "description" in below:
            yield f"{path}{name}", below["description"]
        else:
            assert below["properties"], f"{path}{name} has no description"
            yield from described(below, f"{path}{name}.")


def comments(text: str) -> dict[str, str]:
    """The comment above each key of a YAML file that is indented by two."""
    found: dict[str, str] = {}
    path: list[str] = []
    held: list[str] = []
    for line in text.splitlines():
        if comment := _COMMENT.match(line):
            held.append(comment["words"])
            continue
        if key := _KEY.match(line):
            path = [*path[: len(key["indent"]) // 2], key["name"]]
            if held:
                found[".".join(path)] = " ".join(held)
        held = []
    return found


def test_the_defaults_are_described_in_the_words_of_the_schema(chart: Chart) -> None:
    beside = comments((chart.path / "values.yaml").read_text("utf-8"))
    meanings = dict(described(schema_of(chart)))
    del meanings["global"]  # Helm's, not the chart's
    assert len(meanings) > 70
    assert {path: beside.get(path) for path in meanings} == meanings


def test_every_default_is_in_the_schema_and_every_value_has_a_default(chart: Chart) -> None:
    def leaves(values: dict[str, Any], known: set[str], path: str = "") -> Iterator[str]:
        for name, below in values.items():
            if f"{path}{name}" in known or not isinstance(below, dict):
                yield f"{path}{name}"
            else:
                yield from leaves(below, known, f"{path}{name}.")

    known = {path for path, _ in described(schema_of(chart))} - {"global"}
    defaults = yaml.safe_load((chart.path / "values.yaml").read_text("utf-8"))
    assert set(leaves(defaults, known)) == known


def test_nothing_unknown_is_allowed_anywhere(chart: Chart) -> None:
    def closed(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "properties" in schema:
            yield schema
            for below in schema["properties"].values():
                yield from closed(below)
        if isinstance(schema.get("additionalProperties"), dict):
            yield from closed(schema["additionalProperties"])

    schema = schema_of(chart)
    objects = [found for one in (schema, *schema["$defs"].values()) for found in closed(one)]
    assert len(objects) > 20
    assert all(each["additionalProperties"] is False for each in objects)


def test_only_the_files_that_name_the_service_are_templates_of_copier() -> None:
    chart = "template/deploy/chart/"
    files = [
        path
        for path in lab.template_files()
        if path.startswith(chart) and not path.startswith(f"{chart}files/")
    ]
    assert {path.rpartition("/")[2] for path in files if path.endswith(".jinja")} == {
        "Chart.yaml.jinja",
        "values.yaml.jinja",
    }


def test_make_lints_and_renders_with_every_environment_and_operator(
    chart: Chart, tmp_path: Path
) -> None:
    helm = tmp_path / "helm"
    helm.write_text(
        '#!/bin/sh\necho "$@" >>"$0.log"\ncase "$*" in template*staging*) exit 7 ;; esac\n', "utf-8"
    )
    helm.chmod(0o755)
    done = lab.attempt(["make", "chart", f"HELM={helm}"], chart.service)
    asked = (tmp_path / "helm.log").read_text("utf-8").splitlines()
    assert done.returncode != 0, "a failure ends it"
    apis = " ".join(f"--api-versions={api}" for api in OPERATORS)
    assert [line.replace(f" {apis}", " …") for line in asked] == [
        "lint --quiet --strict deploy/chart --values deploy/values-dev.yaml",
        "template billing-svc deploy/chart --values deploy/values-dev.yaml …",
        "lint --quiet --strict deploy/chart --values deploy/values-prod.yaml",
        "template billing-svc deploy/chart --values deploy/values-prod.yaml …",
        "lint --quiet --strict deploy/chart --values deploy/values-staging.yaml",
        "template billing-svc deploy/chart --values deploy/values-staging.yaml …",
    ]


def test_make_says_that_helm_is_missing(chart: Chart) -> None:
    done = lab.attempt(["make", "chart", "HELM=no-such-helm"], chart.service)
    assert done.returncode != 0
    assert "no-such-helm is not in PATH: install Helm 4" in done.stdout
