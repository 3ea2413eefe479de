"""The chart refuses values that make no sense, before anything is installed, and names them."""

import pytest
from helm_python import HelmError

from tests.template.chart.charts import ADDRESSES, Chart, Values

URL = {"CHASSIS_BUS_URL": "amqp://rabbitmq"}
FROM_SECRET = {"name": "urls", "key": "bus"}
FROM_STORE = {"enabled": True, "store": {"name": "vault"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"image": {"name": "billing"}}, "at '/image': additional properties 'name' not allowed"),
        (
            {"pod": {"securityContext": {}}},
            "at '/pod': additional properties 'securityContext' not allowed",
        ),
        ({"replicas": "2"}, "at '/replicas': got string, want integer"),
        ({"drainSeconds": 2.5}, "at '/drainSeconds': got number, want integer"),
        ({"drainSeconds": 0}, "at '/drainSeconds': minimum"),
        ({"env": {"RATIO": 1}}, "at '/env/RATIO': got number, want string"),
        ({"env": {"CHASSIS_PREFECH": "10"}}, "invalid propertyName 'CHASSIS_PREFECH'"),
        ({"env": {"chassis_prefetch": "10"}}, "invalid propertyName 'chassis_prefetch'"),
        ({"secretEnv": {"2ND": FROM_SECRET}}, "invalid propertyName '2ND'"),
        ({"secretEnv": {"TOKEN": "s3cret"}}, "at '/secretEnv/TOKEN': got string, want object"),
        ({"bus": {"kind": "kafka"}}, "at '/bus/kind': value must be one of 'rabbitmq', 'nats'"),
        ({"inbox": {"kind": "mysql"}}, "at '/inbox/kind': value must be one of"),
        (
            {"image": {"digest": "sha256:abc"}},
            "at '/image/digest': 'sha256:abc' does not match pattern",
        ),
        (
            {"podDisruptionBudget": {"maxUnavailable": 0}},
            "at '/podDisruptionBudget/maxUnavailable': minimum",
        ),
        (
            {"podDisruptionBudget": {"maxUnavailable": "0%"}},
            "at '/podDisruptionBudget/maxUnavailable': '0%'",
        ),
        ({"autoscaling": {"minReplicas": 0}}, "at '/autoscaling/minReplicas': minimum"),
        ({"pod": {"runAsUser": 0}}, "at '/pod/runAsUser': minimum"),
        (
            {"resources": {"limits": {"memory": "256 MB"}}},
            "at '/resources/limits/memory': '256 MB' does not match",
        ),
        (
            {"labels": {"app.kubernetes.io/name": "x"}},
            "invalid propertyName 'app.kubernetes.io/name'",
        ),
    ],
)
def test_the_schema_refuses(chart: Chart, values: Values, message: str) -> None:
    assert any(message in said for said in chart.lint(values))
    with pytest.raises(HelmError) as refused:
        chart.render(values)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"autoscaling": {"keda": {"enabled": True}, "hpa": {"enabled": True}}},
            "autoscaling.keda.enabled and autoscaling.hpa.enabled are both true",
        ),
        (
            {"autoscaling": {"minReplicas": 20}},
            "autoscaling.minReplicas (20) is above autoscaling.maxReplicas (10)",
        ),
        (
            {"autoscaling": {"keda": {"enabled": True, "fallback": {"replicas": 11}}}},
            "autoscaling.keda.fallback.replicas (11) is above autoscaling.maxReplicas (10)",
        ),
        (
            {"autoscaling": {"keda": {"enabled": True, "hostFromEnv": "API"}}},
            "autoscaling.keda.hostFromEnv names API",
        ),
        (
            {"autoscaling": {"keda": {"enabled": True, "hostFromEnv": ""}}},
            (
                "autoscaling.keda.hostFromEnv and autoscaling.keda.authenticationRef.name"
                " are both empty"
            ),
        ),
        (
            {"bus": {"kind": "nats"}, "autoscaling": {"keda": {"enabled": True}}},
            "autoscaling.keda.natsMonitoring is not set",
        ),
        (
            {"env": URL | {"CHASSIS_DRAIN_SECONDS": "5"}},
            "CHASSIS_DRAIN_SECONDS is set by the chart and follows from drain",
        ),
        ({"env": URL | {"CHASSIS_HTTP_PORT": "80"}}, "CHASSIS_HTTP_PORT is set by the chart"),
        (
            {"env": URL, "secretEnv": {"CHASSIS_BUS_URL": FROM_SECRET}},
            "CHASSIS_BUS_URL is set more than once",
        ),
        (
            {"env": URL, "externalSecret": FROM_STORE | {"env": {"CHASSIS_BUS_URL": {"key": "a"}}}},
            "CHASSIS_BUS_URL is set more than once",
        ),
        ({"env": URL, "externalSecret": FROM_STORE}, "externalSecret.env is empty"),
        (
            {"env": URL, "externalSecret": {"enabled": True, "env": {"T": {"key": "a"}}}},
            "externalSecret.store.name is not",
        ),
        ({"env": {"CHASSIS_LOG_LEVEL": "debug"}}, "CHASSIS_BUS_URL is not set"),
        ({"env": URL}, "CHASSIS_INBOX_URL is not set, and inbox.kind is redis"),
        (
            {"env": ADDRESSES["env"] | {"CHASSIS_BUS_URL": "nats://user:s3cret@nats"}},
            "CHASSIS_BUS_URL begins with nats://, but bus.kind is rabbitmq: change one of them",
        ),
        (
            {"inbox": {"kind": "postgres"}},
            "CHASSIS_INBOX_URL begins with redis://, but inbox.kind is postgres",
        ),
        (
            {"monitoring": {"rules": {"alerts": {"NoReplicasReady": {"enabled": False}}}}},
            "monitoring.rules.alerts.NoReplicasReady is no alert: there are BrokerUnreachable, ",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(chart: Chart, values: Values, message: str) -> None:
    with pytest.raises(HelmError) as refused:
        chart.render({**ADDRESSES, **values})
    assert message in str(refused.value)


def test_an_external_secret_without_its_operator_is_refused(chart: Chart) -> None:
    external = FROM_STORE | {"env": {"TOKEN": {"key": "a"}}}
    with pytest.raises(HelmError, match=r"does not know external-secrets.io/v1: install"):
        chart.render({**ADDRESSES, "externalSecret": external}, apis=())


def test_a_chart_with_nothing_but_its_defaults_says_what_is_missing(chart: Chart) -> None:
    with pytest.raises(HelmError, match="CHASSIS_BUS_URL is not set"):
        chart.render({})
    assert chart.lint({}) == []


def test_the_values_of_services_from_before_the_chart_are_accepted(chart: Chart) -> None:
    env = {
        "CHASSIS_BUS_URL": "amqp://rabbitmq:5672",
        "CHASSIS_INBOX_URL": "redis://redis",
        "CHASSIS_TRACE_RATIO": "1",
    }
    assert chart.render({"replicas": 1, "env": env})
