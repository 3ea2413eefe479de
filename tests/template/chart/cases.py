"""Cases for the chart's lint, schemas and audit: every bus, every inbox and every set of values."""

from collections.abc import Mapping, Sequence
from itertools import product

from tests.template.chart.charts import ADDRESSES, BUSES, ENVIRONMENTS, INBOXES, Chart, Values

EVERYTHING: Values = {
    **ADDRESSES,
    "secretEnv": {"STRIPE_KEY": {"name": "stripe", "key": "api-key"}},
    "externalSecret": {
        "enabled": True,
        "store": {"name": "vault"},
        "env": {"TOKEN": {"key": "a/b", "property": "t"}},
    },
    "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": ["registry"]},
    "autoscaling": {
        "keda": {
            "enabled": True,
            "natsMonitoring": "nats.messaging:8222",
            "authenticationRef": {"name": "broker"},
        }
    },
    "relay": {"replicas": 2},
    "pod": {
        "annotations": {"a": "b"},
        "labels": {"c": "d"},
        "priorityClassName": "high",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "volumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    },
    "serviceAccount": {"annotations": {"role": "billing"}},
    "networkPolicy": {
        "dns": {"to": [{"namespaceSelector": {}}]},
        "bus": {"ports": [5671], "to": [{"podSelector": {"matchLabels": {"app": "rabbitmq"}}}]},
        "metrics": {"from": [{"namespaceSelector": {}}]},
        "egress": [{"ports": [{"port": 443}]}],
        "ingress": [{"from": [{"podSelector": {}}]}],
    },
    "monitoring": {
        "podMonitor": {"labels": {"release": "prometheus"}},
        "rules": {"labels": {"release": "prometheus"}},
        "dashboard": {"annotations": {"folder": "services"}},
    },
}
"""Every value that adds something to the manifests."""

VARIANTS: Mapping[str, Values] = {
    "everything": EVERYTHING,
    "hpa": {**ADDRESSES, "autoscaling": {"hpa": {"enabled": True}}},
    "workers-alone": {
        **ADDRESSES,
        "replicas": 1,
        "relay": {"enabled": False},
        "migration": {"enabled": False},
        "serviceAccount": {"create": False},
        "networkPolicy": {"enabled": False},
    },
}
"""Beside the environments: values under which other parts of the templates are rendered."""

CASES: Sequence[tuple[str, str, str]] = list(product(BUSES, INBOXES, (*ENVIRONMENTS, *VARIANTS)))


def values_of(chart: Chart, case: str) -> Values:
    return VARIANTS[case] if case in VARIANTS else chart.environment(case)
