"""The pods: locked down, with time to drain, and started with settings that the chassis accepts."""

from collections.abc import Callable
from inspect import signature
from itertools import product, starmap

import pytest
import typer
from helm_python import HelmError
from nats.aio.client import DEFAULT_FLUSH_TIMEOUT

import chassis.cli
from chassis.bus import rabbitmq
from chassis.bus.nats import NatsBus, lane
from chassis.bus.rabbitmq import link
from chassis.cli import loop
from chassis.handling.surroundings import Limits
from chassis.inbox.nats_kv import NatsKvInbox
from chassis.inbox.postgres import database
from chassis.inbox.redis import RedisInbox
from chassis.jetstream.wire import DISCARD_SECONDS
from chassis.replica import probes, relay
from chassis.service import Service
from chassis.settings import VARIABLES, load
from chassis.telemetry import traces
from tests.template.chart.charts import (
    ADDRESSES,
    BUSES,
    ENVIRONMENTS,
    INBOXES,
    ON_POSTGRES,
    Chart,
    Values,
    one,
    pods,
)
from tests.template.chart.schemas import KUBERNETES, check


def answer_seconds(adapter: type) -> float:
    """How long this adapter waits for one answer."""
    return float(signature(adapter).parameters["timeout"].default)


BUS_SECONDS = {
    "rabbitmq": link.ANSWER_SECONDS + rabbitmq.bus.CANCEL_SECONDS + 2 * link.CLOSE_SECONDS,
    "nats": DEFAULT_FLUSH_TIMEOUT
    + lane.CANCEL_SECONDS
    + 2 * answer_seconds(NatsBus)
    + DISCARD_SECONDS,
}
STORE_SECONDS = {
    "nats-kv": answer_seconds(NatsKvInbox) + DISCARD_SECONDS,
    "redis": answer_seconds(RedisInbox),
    "postgres": database.CLOSE_SECONDS,
}


def closing_seconds(bus: str, inbox: str) -> float:
    """From the drain's deadline to the end of the process, when nothing answers any more."""
    cancel = Limits(handler_timeout=30, lease=60, max_body=1).cancel + relay.CANCEL_SECONDS
    store = max(STORE_SECONDS[inbox], traces.SHUTDOWN_SECONDS)
    return cancel + BUS_SECONDS[bus] + store + probes.CLOSE_SECONDS + loop.CANCEL_SECONDS


@pytest.mark.parametrize("component", ["worker", "relay", "migrate", "test"])
def test_a_pod_is_restricted(postgres_chart: Chart, component: str) -> None:
    pod = pods(postgres_chart.render(ON_POSTGRES))[component]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"].keys() == {"memory"}
    assert [(volume["name"], volume["emptyDir"]) for volume in pod["volumes"]] == [
        ("tmp", {"sizeLimit": "64Mi"})
    ]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


SIDECAR: Values = {
    "name": "proxy",
    "image": "registry.example.com/proxy:1",
    "restartPolicy": "Always",
    "securityContext": {"runAsUser": 65532},
    "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
}


def test_a_sidecar_runs_in_every_pod_under_the_same_restrictions(postgres_chart: Chart) -> None:
    values = {**ON_POSTGRES, "pod": {"initContainers": [SIDECAR]}}
    manifests = postgres_chart.render(values)
    for pod in pods(manifests).values():
        (sidecar,) = pod["initContainers"]
        assert sidecar == {**SIDECAR, "securityContext": sidecar["securityContext"]}
        restricted = pod["containers"][0]["securityContext"]
        assert sidecar["securityContext"] == restricted | {"runAsUser": 65532}
    for manifest in manifests:
        for kubernetes in KUBERNETES[2:]:  # from 1.29 on
            check(manifest, kubernetes)


def test_a_sidecar_is_refused_where_kubernetes_has_none(chart: Chart) -> None:
    values = {**ADDRESSES, "pod": {"initContainers": [SIDECAR]}}
    with pytest.raises(HelmError, match="proxy has a restartPolicy"):
        chart.render(values, kubernetes="1.28")


@pytest.mark.parametrize(
    "more",
    [
        {"securityContext": {"privileged": True}},
        {"securityContext": {"allowPrivilegeEscalation": True}},
        {"securityContext": {"runAsUser": 0}},
        {"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}},
        {"restartPolicy": "Never"},
    ],
)
def test_a_container_of_the_values_gets_no_further_rights(chart: Chart, more: Values) -> None:
    values = {**ADDRESSES, "pod": {"initContainers": [{**SIDECAR, **more}]}}
    with pytest.raises(HelmError, match="initContainers/0"):
        chart.render(values)


def test_further_objects_know_the_release(chart: Chart) -> None:
    named = {"name": "{{ .Release.Name }}-ca", "namespace": "{{ .Release.Namespace }}"}
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named}
    found = one(chart.render({**ADDRESSES, "extraObjects": [extra]}), "ConfigMap", "billing-svc-ca")
    assert found["metadata"] == {"name": "billing-svc-ca", "namespace": "prod"}


def test_pods_may_all_stop_before_new_ones_start(chart: Chart) -> None:
    deployment = one(chart.render(ADDRESSES), "Deployment")
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    values = {**ADDRESSES, "updateStrategy": {"type": "Recreate"}}
    assert one(chart.render(values), "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_a_relay_has_memory_for_a_batch_of_the_largest_events(postgres_chart: Chart) -> None:
    (container,) = pods(postgres_chart.render(ON_POSTGRES))["relay"]["containers"]
    mebibytes = int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
    imported = 72  # measured, in MiB
    batch = relay.BATCH * load({}).max_body_bytes / 2**20
    assert mebibytes > imported + 2 * batch, "once as a row, once as a message"
    assert (
        container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
    )


def test_variables_of_the_clusters_services_stay_out(chart: Chart) -> None:
    """A Service called chassis-… would put variables into the pods.

    The chassis takes these for misspelt settings.
    """
    assert {pod["enableServiceLinks"] for pod in pods(chart.render(ADDRESSES)).values()} == {False}


def test_the_user_may_be_left_to_the_platform(chart: Chart) -> None:
    context = pods(chart.render({**ADDRESSES, "pod": {"runAsUser": None}}))["worker"][
        "securityContext"
    ]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("inbox", INBOXES)
@pytest.mark.parametrize("bus", BUSES)
def test_the_grace_period_is_the_drain_and_the_time_to_close(
    chart_of: Callable[[str, str], Chart], bus: str, inbox: str, environment: str
) -> None:
    chart = chart_of(bus, inbox)
    manifests = chart.render(chart.environment(environment))
    drain = float(one(manifests, "ConfigMap")["data"]["CHASSIS_DRAIN_SECONDS"])
    for component in {"worker", "relay"} & pods(manifests).keys():
        margin = pods(manifests)[component]["terminationGracePeriodSeconds"] - drain
        assert (
            closing_seconds(bus, inbox)
            <= margin
            < max(starmap(closing_seconds, product(BUSES, INBOXES))) + 5
        )


def test_the_replicas_in_nats_are_a_value_where_nats_is_used(
    chart_of: Callable[[str, str], Chart],
) -> None:
    for bus, inbox, replicas in [
        ("nats", "postgres", "3"),
        ("rabbitmq", "nats-kv", "3"),
        ("rabbitmq", "postgres", None),
    ]:
        chart = chart_of(bus, inbox)
        given = {**chart.addresses, "bus": {"natsReplicas": 3}}
        config = one(chart.render(given), "ConfigMap")["data"]
        assert config.get("CHASSIS_NATS_REPLICAS") == replicas


def test_one_value_moves_both_the_drain_and_the_grace_period(postgres_chart: Chart) -> None:
    manifests = postgres_chart.render({**ON_POSTGRES, "drainSeconds": 100})
    assert one(manifests, "ConfigMap")["data"]["CHASSIS_DRAIN_SECONDS"] == "100"
    assert {
        pods(manifests)[name]["terminationGracePeriodSeconds"] for name in ("worker", "relay")
    } == {140}


def test_probes_ask_what_the_chassis_answers(postgres_chart: Chart) -> None:
    manifests = postgres_chart.render(ON_POSTGRES)
    port = int(one(manifests, "ConfigMap")["data"]["CHASSIS_HTTP_PORT"])
    for component in ("worker", "relay"):
        (container,) = pods(manifests)[component]["containers"]
        assert [(each["name"], each["containerPort"]) for each in container["ports"]] == [
            ("http", port)
        ]
        asked = {
            name: container[f"{name}Probe"]["httpGet"]
            for name in ("startup", "liveness", "readiness")
        }
        assert asked == {
            "startup": {"path": "/livez", "port": "http"},
            "liveness": {"path": "/livez", "port": "http"},
            "readiness": {"path": "/readyz", "port": "http"},
        }


def test_a_pod_runs_a_command_that_the_service_has(
    postgres_chart: Chart, nats_chart: Chart
) -> None:
    command = typer.main.get_command(chassis.cli.app(Service("billing-svc", version="0")))
    for chart in (postgres_chart, nats_chart):
        for pod in pods(chart.render(chart.addresses)).values():
            found = command
            for word in pod["containers"][0]["args"]:
                found = found.commands[word]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("inbox", INBOXES)
@pytest.mark.parametrize("bus", BUSES)
def test_the_chassis_accepts_the_variables_of_every_environment(
    chart_of: Callable[[str, str], Chart], bus: str, inbox: str, environment: str
) -> None:
    chart = chart_of(bus, inbox)
    manifests = chart.render(chart.environment(environment))
    plain = set(one(manifests, "ConfigMap")["data"])
    (worker,) = pods(manifests)["worker"]["containers"]
    referred = {each["name"] for each in worker.get("env", ())}
    assert {"CHASSIS_BUS_URL", "CHASSIS_INBOX_URL"} <= plain | referred
    assert {name.removeprefix("CHASSIS_").lower() for name in plain | referred} <= VARIABLES.keys()


def test_a_change_of_a_variable_rolls_the_pods_and_a_change_of_replicas_does_not(
    postgres_chart: Chart,
) -> None:
    def template(**values: object) -> dict[str, object]:
        manifests = postgres_chart.render({**ON_POSTGRES, **values})
        return {
            name: one(manifests, "Deployment", name)["spec"]["template"]
            for name in ("billing-svc", "billing-svc-relay")
        }

    before = template()
    assert template(replicas=7) == before
    changed = template(env=ON_POSTGRES["env"] | {"CHASSIS_LOG_LEVEL": "debug"})
    assert all(changed[name] != before[name] for name in before)


def test_the_digest_wins_over_the_tag(chart: Chart) -> None:
    def image(**values: str) -> str:
        (container,) = pods(chart.render({**ADDRESSES, "image": values}))["worker"]["containers"]
        return str(container["image"])

    name, digest = "registry.example.com/acme/billing-svc", "sha256:" + "a" * 64
    assert image() == f"{name}:dev"
    assert image(tag="1.2.3") == f"{name}:1.2.3"
    assert image(tag="1.2.3", digest=digest) == f"{name}@{digest}"


@pytest.mark.parametrize("name", ["billing-svc", "canary", "b" * 53])
def test_selectors_match_their_own_pods_only(postgres_chart: Chart, name: str) -> None:
    manifests = postgres_chart.render(ON_POSTGRES, name=name)
    selected = {}
    for deployment in (each for each in manifests if each["kind"] == "Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
        assert len(deployment["metadata"]["name"]) <= 63
        selected[deployment["metadata"]["name"]] = frozenset(selector.items())
    assert len(set(selected.values())) == len(selected) == 2
