"""Secrets do not leak, only needed traffic passes, and a migration's needs are installed first."""

from typing import Any

import pytest

from tests.template.chart.charts import (
    ADDRESSES,
    ENVIRONMENTS,
    ON_POSTGRES,
    Chart,
    Manifest,
    Values,
    addresses,
    kinds,
    one,
    pods,
)

SECRET = {
    "CHASSIS_BUS_URL": {"name": "urls", "key": "bus"},
    "CHASSIS_INBOX_URL": {"name": "urls", "key": "inbox"},
    "TOKEN": {"name": "stripe", "key": "token"},
}
REMOTE: Values = {
    "enabled": True,
    "store": {"name": "vault"},
    "env": {"CHASSIS_BUS_URL": {"key": "billing", "property": "bus"}},
}


def ports(policy: Manifest) -> set[int]:
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_secret_is_ever_rendered(postgres_chart: Chart, environment: str) -> None:
    assert "Secret" not in kinds(postgres_chart.render(postgres_chart.environment(environment)))


def test_a_secret_is_referred_to_by_every_pod_and_is_not_in_the_config_map(
    postgres_chart: Chart,
) -> None:
    manifests = postgres_chart.render({"secretEnv": SECRET})
    assert not SECRET.keys() & one(manifests, "ConfigMap")["data"].keys()
    assert pods(manifests).keys() == {"worker", "relay", "migrate", "test"}
    for pod in pods(manifests).values():
        referred = {
            each["name"]: each["valueFrom"]["secretKeyRef"] for each in pod["containers"][0]["env"]
        }
        assert referred == SECRET


def test_a_migration_may_have_a_login_of_its_own(postgres_chart: Chart) -> None:
    own = {"CHASSIS_INBOX_URL": {"name": "urls", "key": "migrate"}}
    values = {"secretEnv": SECRET, "migration": {"secretEnv": own}}
    found = pods(postgres_chart.render(values))
    for component, expected in (("migrate", SECRET | own), ("worker", SECRET)):
        referred = {
            each["name"]: each["valueFrom"]["secretKeyRef"]
            for each in found[component]["containers"][0]["env"]
        }
        assert referred == expected


def test_an_external_secret_makes_the_secret_that_the_pods_read(chart: Chart) -> None:
    inbox = {"CHASSIS_INBOX_URL": "redis://redis"}
    manifests = chart.render({"env": inbox, "externalSecret": REMOTE})
    spec = one(manifests, "ExternalSecret")["spec"]
    assert spec["secretStoreRef"] == {"name": "vault", "kind": "ClusterSecretStore"}
    assert spec["data"] == [
        {"secretKey": "CHASSIS_BUS_URL", "remoteRef": {"key": "billing", "property": "bus"}}
    ]
    for pod in pods(manifests).values():
        assert {"secretRef": {"name": spec["target"]["name"]}} in pod["containers"][0]["envFrom"]
    assert "Secret" not in kinds(manifests)
    assert "CHASSIS_BUS_URL" not in one(manifests, "ConfigMap")["data"]


def test_the_notes_tell_of_an_operator_that_is_missing(chart: Chart) -> None:
    assert "does not know monitoring.coreos.com/v1" in chart.notes(ADDRESSES)


def test_a_migration_needs_nothing_that_is_installed_after_it(postgres_chart: Chart) -> None:
    values = {
        "externalSecret": REMOTE,
        "env": {"CHASSIS_INBOX_URL": "postgresql://postgres/billing"},
    }
    manifests = postgres_chart.render(values)
    hooks = {
        (each["kind"], each["metadata"]["name"]): int(
            each["metadata"]["annotations"]["helm.sh/hook-weight"]
        )
        for each in manifests
        if each["metadata"].get("annotations", {}).get("helm.sh/hook") == "pre-install,pre-upgrade"
    }
    job = ("Job", "billing-svc-migrate")
    assert all(weight < hooks[job] for hook, weight in hooks.items() if hook != job)
    pod = pods(manifests)["migrate"]
    (container,) = pod["containers"]
    assert ("ServiceAccount", pod["serviceAccountName"]) in hooks
    assert container["envFrom"] == [{"secretRef": {"name": "billing-svc-migrate"}}]
    assert (
        one(manifests, "ExternalSecret", "billing-svc-migrate")["spec"]["target"]["name"]
        == "billing-svc-migrate"
    )
    assert ("ExternalSecret", "billing-svc-migrate") in hooks
    assert {each["name"]: each["value"] for each in container["env"]} == values["env"]
    policy = one(manifests, "NetworkPolicy", "billing-svc-migrate")
    assert ("NetworkPolicy", "billing-svc-migrate") in hooks
    labels = one(manifests, "Job", "billing-svc-migrate")["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert 5432 in ports(policy)


def test_a_migration_fails_before_helm_gives_up(postgres_chart: Chart) -> None:
    assert (
        one(postgres_chart.render(ON_POSTGRES), "Job", "billing-svc-migrate")["spec"][
            "activeDeadlineSeconds"
        ]
        < 300
    )


@pytest.mark.parametrize(
    ("values", "settings", "components"),
    [
        (
            {},
            {"CHASSIS_OUTBOX_RELAY": "false", "CHASSIS_MIGRATE": "false"},
            {"worker", "relay", "migrate", "test"},
        ),
        (
            {"relay": {"enabled": False}},
            {"CHASSIS_MIGRATE": "false"},
            {"worker", "migrate", "test"},
        ),
        (
            {"migration": {"enabled": False}},
            {"CHASSIS_OUTBOX_RELAY": "false"},
            {"worker", "relay", "test"},
        ),
    ],
)
def test_workers_leave_to_others_what_others_do(
    postgres_chart: Chart, values: Values, settings: dict[str, str], components: set[str]
) -> None:
    manifests = postgres_chart.render({**ON_POSTGRES, **values})
    data: dict[str, Any] = one(manifests, "ConfigMap")["data"]
    told = {
        name: data[name] for name in ("CHASSIS_OUTBOX_RELAY", "CHASSIS_MIGRATE") if name in data
    }
    assert (told, set(pods(manifests))) == (settings, components)


def test_stores_other_than_postgresql_have_no_relay_and_no_migration(chart: Chart) -> None:
    manifests = chart.render(ADDRESSES)
    assert set(pods(manifests)) == {"worker", "test"}
    assert (
        not {"CHASSIS_OUTBOX_RELAY", "CHASSIS_MIGRATE"} & one(manifests, "ConfigMap")["data"].keys()
    )


@pytest.mark.parametrize(
    ("values", "reachable"),
    [
        ({"bus": {"kind": "rabbitmq"}, "inbox": {"kind": "redis"}}, {53, 5671, 5672, 6379}),
        ({"bus": {"kind": "rabbitmq"}, "inbox": {"kind": "postgres"}}, {53, 5671, 5672, 5432}),
        ({"bus": {"kind": "nats"}, "inbox": {"kind": "nats-kv"}}, {53, 4222}),
        (
            {"networkPolicy": {"bus": {"ports": [15671]}, "inbox": {"ports": [16379]}}},
            {53, 15671, 16379},
        ),
        ({"networkPolicy": {"egress": [{"ports": [{"port": 443}]}]}}, {53, 5671, 5672, 6379, 443}),
        ({"networkPolicy": {"dns": {"ports": [5353]}}}, {5353, 5671, 5672, 6379}),
        (
            {"env": ADDRESSES["env"] | {"CHASSIS_OTLP_ENDPOINT": "http://collector:4318"}},
            {53, 5671, 5672, 6379, 4318},
        ),
    ],
)
def test_only_what_the_service_needs_can_be_reached(
    chart: Chart, values: Values, reachable: set[int]
) -> None:
    inbox = values.get("inbox", {}).get("kind", "redis")
    given = addresses(values.get("bus", {}).get("kind", "rabbitmq"), inbox)
    policy = one(chart.render({**given, **values}), "NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert ports(policy) == reachable
    assert [rule["ports"] for rule in policy["spec"]["ingress"]] == [
        [{"port": "http", "protocol": "TCP"}]
    ]


def test_names_are_asked_for_by_udp_and_tcp(chart: Chart) -> None:
    for values, asked in (
        ({}, [53]),
        ({"networkPolicy": {"dns": {"ports": [53, 5353]}}}, [53, 5353]),
    ):
        rule = one(chart.render({**ADDRESSES, **values}), "NetworkPolicy")["spec"]["egress"][0]
        assert rule["ports"] == [
            {"port": port, "protocol": name} for port in asked for name in ("UDP", "TCP")
        ]


def test_the_policy_holds_for_every_pod_of_the_release(postgres_chart: Chart) -> None:
    manifests = postgres_chart.render(ON_POSTGRES)
    selector = one(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    labels = [each["metadata"]["labels"] for each in manifests if each["kind"] == "Pod"]
    labels += [
        each["spec"]["template"]["metadata"]["labels"]
        for each in manifests
        if each["kind"] in {"Deployment", "Job"}
    ]
    assert len(labels) == 4
    assert all(selector.items() <= each.items() for each in labels)
