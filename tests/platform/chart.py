"""The platform's chart, rendered by Helm without a cluster."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from helm_python import Chart as HelmChart
from helm_python import _native

from tests.platform.rules import COMPONENTS, PLATFORM
from tests.template.chart.charts import Manifest, Values

CHART = PLATFORM / "chart"
EVERYTHING: Values = {component: {"enabled": True} for component in COMPONENTS}
OPERATOR = ("monitoring.coreos.com/v1",)


def render(
    values: Values, apis: Sequence[str] = OPERATOR, name: str = "platform"
) -> list[Manifest]:
    options = {"name": name, "namespace": "monitoring", "api_versions": list(apis)}
    with HelmChart.load(str(CHART)) as chart:
        rendered = _native.call_string(
            "helm_render", chart._raw(), json.dumps(values), json.dumps(options)
        )
    return [
        manifest
        for path, text in sorted(json.loads(rendered).items())
        if path.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest is not None
    ]


def alerts(values: Values) -> Mapping[str, Mapping[str, Any]]:
    return {
        rule["alert"]: rule
        for manifest in render(values)
        if manifest["kind"] == "PrometheusRule"
        for group in manifest["spec"]["groups"]
        for rule in group["rules"]
    }
