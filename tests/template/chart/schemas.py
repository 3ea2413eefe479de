"""Strict schemas of the chart's manifests: Kubernetes' own, and reduced ones of operators' CRDs.

kubernetes-validate is used for its data: its own function reads 1.5 MB of definitions for each
manifest.
"""

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions
from referencing import Registry, Resource

from tests.template.chart.charts import Manifest

OLDEST = (1, 27)
KUBERNETES = sorted(
    {version for version in all_versions() if tuple(map(int, version.split(".")[:2])) >= OLDEST},
    key=lambda version: int(version.split(".")[1]),
)
CUSTOM: dict[str, Any] = yaml.safe_load(
    Path(__file__).with_name("custom_resources.yaml").read_text("utf-8")
)
DEFINITIONS = CUSTOM.pop("$defs")

_DATA = files("kubernetes_validate") / "kubernetes-json-schema"


class NotServedError(Exception):
    """This version of Kubernetes does not serve this kind, or never did."""


def check(manifest: Manifest, kubernetes: str) -> None:
    """Raises jsonschema.ValidationError for a misfit, NotServedError for a kind not served."""
    custom = CUSTOM.get(f"{manifest['apiVersion']}/{manifest['kind']}")
    if custom is None:
        _validator(kubernetes, manifest["apiVersion"], manifest["kind"]).validate(manifest)
    else:
        jsonschema.validate(manifest["spec"], custom | {"$defs": DEFINITIONS}, Draft202012Validator)


@cache
def _validator(kubernetes: str, api_version: str, kind: str) -> Draft202012Validator:
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    file = _DATA / f"v{kubernetes}-local-strict" / f"{kind.lower()}-{group}.json"
    if not file.is_file():
        raise NotServedError(f"Kubernetes {kubernetes} does not serve {api_version} {kind}")
    schema = json.loads(file.read_text("utf-8"))
    return Draft202012Validator(
        schema, registry=Resource.from_contents(schema) @ _registry(kubernetes)
    )


@cache
def _registry(kubernetes: str) -> Registry[Any]:
    definitions = json.loads(
        (_DATA / f"v{kubernetes}-local-strict" / "_definitions.json").read_text("utf-8")
    )
    return Resource.from_contents(definitions) @ Registry()
