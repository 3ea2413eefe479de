"""Charts of rendered services, and Helm at work on them without a cluster.

Knows Copier's render and Helm; knows nothing of what the chart should contain.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from copier import run_copy
from helm_python import Chart as HelmChart
from helm_python import Config, _native, lint
from yaml import CSafeLoader

from tests.template import lab

BUSES: Sequence[str] = list(lab.QUESTIONS["bus"]["choices"].values())
INBOXES: Sequence[str] = list(lab.QUESTIONS["inbox"]["choices"].values())
ENVIRONMENTS = ("dev", "staging", "prod")
OPERATORS = (
    "monitoring.coreos.com/v1",
    "keda.sh/v1alpha1",
    "external-secrets.io/v1",
    "gateway.networking.k8s.io/v1",
)
"""The group/versions that a cluster with every operator knows beside Kubernetes' own."""

Manifest = dict[str, Any]
Values = Mapping[str, Any]

SCHEMES = {
    "rabbitmq": "amqp",
    "nats": "nats",
    "nats-kv": "nats",
    "redis": "redis",
    "postgres": "postgresql",
}


def addresses(bus: str, inbox: str) -> Values:
    """The least that the chart wants to be told: where broker and store are."""
    return {
        "env": {
            "CHASSIS_BUS_URL": f"{SCHEMES[bus]}://{bus}",
            "CHASSIS_INBOX_URL": f"{SCHEMES[inbox]}://{inbox}",
        }
    }


ADDRESSES = addresses("rabbitmq", "redis")
ON_NATS = addresses("nats", "nats-kv")
ON_POSTGRES = addresses("rabbitmq", "postgres")


@dataclass(frozen=True)
class Chart:
    """The chart in the rendered service at `service`."""

    service: Path

    @property
    def path(self) -> Path:
        return self.service / "deploy/chart"

    @property
    def addresses(self) -> Values:
        """The least that this chart wants to be told."""
        values = yaml.safe_load((self.path / "values.yaml").read_text("utf-8"))
        return addresses(values["bus"]["kind"], values["inbox"]["kind"])

    def environment(self, name: str) -> Values:
        """The team's values for an environment, as the template seeds them."""
        values: Values = yaml.safe_load(
            (self.service / f"deploy/values-{name}.yaml").read_text("utf-8")
        )
        return values

    def lint(self, values: Values) -> list[str]:
        """What Helm's strict lint warns of or refuses."""
        found = lint(str(self.path), dict(values), strict=True, kube_version="v1.33.0")
        return [
            message["error"] for message in found["messages"] if message["severity"] > 1
        ] + found["errors"]

    def render(
        self,
        values: Values,
        *,
        apis: Sequence[str] = OPERATORS,
        kubernetes: str = "1.33",
        name: str = "billing-svc",
    ) -> list[Manifest]:
        """The manifests of a release in the namespace `prod`. Raises helm_python.HelmError."""
        options = {
            "name": name,
            "namespace": "prod",
            "kube_version": f"v{kubernetes}.0",
            "api_versions": list(apis),
        }
        with HelmChart.load(str(self.path)) as chart:
            # The public method cannot say which API versions the cluster has.
            files = json.loads(
                _native.call_string(
                    "helm_render", chart._raw(), json.dumps(values), json.dumps(options)
                )
            )
        texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
        return [
            manifest
            for text in texts
            for manifest in yaml.load_all(text, CSafeLoader)
            if manifest is not None
        ]

    def notes(self, values: Values) -> str:
        """What Helm says after an install into a cluster without operators."""
        with Config(namespace="prod", storage_driver="memory") as config:
            return str(
                config.install(str(self.path), "billing-svc", dict(values), dry_run="client")[
                    "notes"
                ]
            )


def render_service(template: Path, folder: Path, **answers: str) -> Chart:
    """The chart of a service that plain Copier renders from the repository `template`."""
    run_copy(str(template), folder, data=answers, defaults=True, vcs_ref="HEAD", quiet=True)
    return Chart(folder)


def one(manifests: Sequence[Manifest], kind: str, name: str = "billing-svc") -> Manifest:
    """The only manifest of a kind and a name."""
    (found,) = (
        each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name
    )
    return found


def kinds(manifests: Sequence[Manifest]) -> set[str]:
    return {each["kind"] for each in manifests}


def pods(manifests: Sequence[Manifest]) -> dict[str, Manifest]:
    """Specs of all pods, by their component."""
    found = {}
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "Job"}:
            pod = manifest["spec"]["template"]
            found[pod["metadata"]["labels"]["app.kubernetes.io/component"]] = pod["spec"]
        elif manifest["kind"] == "Pod":
            found[manifest["metadata"]["labels"]["app.kubernetes.io/component"]] = manifest["spec"]
    return found
