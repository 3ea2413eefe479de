"""Cases for the chart's lint, schemas and audit: every bus, every inbox and every set of values."""

from collections.abc import Mapping, Sequence
from itertools import product

from tests.template.chart.charts import BUSES, ENVIRONMENTS, INBOXES, Chart, Values

EVERYTHING: Values = {
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
    "api": {
        "enabled": True,
        "route": {
            "enabled": True,
            "gateways": [{"name": "public", "namespace": "gateways"}],
            "hostnames": ["billing.example.com"],
        },
    },
    "updateStrategy": {"maxSurge": "25%", "maxUnavailable": 1},
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "{{ .Release.Name }}-extra",
                "namespace": "{{ .Release.Namespace }}",
            },
            "data": {"a": "b"},
        }
    ],
    "pod": {
        "annotations": {"a": "b"},
        "labels": {"c": "d"},
        "priorityClassName": "high",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "runtimeClassName": "gvisor",
        "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
        "initContainers": [
            {
                "name": "wait",
                "image": "registry.example.com/wait:1.0.0@sha256:" + "0" * 64,
                "imagePullPolicy": "Always",
                "args": ["vault:8200"],
                "resources": {
                    "requests": {"cpu": "10m", "memory": "16Mi"},
                    "limits": {"memory": "16Mi"},
                },
            }
        ],
        "volumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    },
    "serviceAccount": {"annotations": {"role": "billing"}},
    "networkPolicy": {
        "dns": {"to": [{"namespaceSelector": {}}]},
        "bus": {"ports": [5671], "to": [{"podSelector": {"matchLabels": {"app": "rabbitmq"}}}]},
        "metrics": {"from": [{"namespaceSelector": {}}]},
        "api": {"from": [{"namespaceSelector": {}}]},
        "egress": [{"ports": [{"port": 443}]}],
        "ingress": [{"from": [{"podSelector": {}}]}],
    },
    "monitoring": {
        "podMonitor": {"labels": {"release": "prometheus"}},
        "rules": {
            "labels": {"release": "prometheus"},
            "alerts": {"NotReady": {"for": "30m", "labels": {"page": "no"}}},
        },
        "dashboard": {"annotations": {"folder": "services"}},
    },
}
"""Every value that adds something to the manifests, but for the addresses."""

VARIANTS: Mapping[str, Values] = {
    "everything": EVERYTHING,
    "hpa": {"autoscaling": {"hpa": {"enabled": True}}},
    "workers-alone": {
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
    if case not in VARIANTS:
        return chart.environment(case)
    return {**chart.addresses, **VARIANTS[case]}
