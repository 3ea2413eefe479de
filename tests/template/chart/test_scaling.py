"""The number of workers: replicas, one of two autoscalers, and how many may leave at a time."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from helm_python import Config, HelmError

from chassis.bus.nats.lane import EVENTS
from chassis.bus.rabbitmq.topology import shared_queue
from chassis.service import Service
from tests.template.chart.charts import ADDRESSES, ON_POSTGRES, Chart, Values, kinds, one
from tests.template.chart.cluster import cluster

KEDA: Values = {
    **ADDRESSES,
    "autoscaling": {"keda": {"enabled": True, "natsMonitoring": "nats.messaging:8222"}},
}
HPA: Values = {**ADDRESSES, "autoscaling": {"hpa": {"enabled": True}}}


def trigger(chart: Chart, **keda: object) -> dict[str, Any]:
    more = {"autoscaling": {"keda": {**KEDA["autoscaling"]["keda"], **keda}}}
    values = {**KEDA, **chart.addresses, **more}
    (found,) = one(chart.render(values), "ScaledObject")["spec"]["triggers"]
    return dict(found)


def name_in_code(chart: Chart) -> str:
    """The name that the service's own code gives to the chassis."""
    code = (chart.service / "src/billing_svc/handlers.py").read_text("utf-8")
    assert 'Service("billing-svc")' in code
    return Service("billing-svc", version="0").name


def test_keda_looks_at_the_queue_that_the_chassis_declares(chart: Chart) -> None:
    found = trigger(chart)
    assert found["type"] == "rabbitmq"
    assert found["metadata"] == {
        "hostFromEnv": "CHASSIS_BUS_URL",
        "queueName": shared_queue(name_in_code(chart)).name,
        "mode": "QueueLength",
        "value": "100",
    }


def test_keda_looks_at_the_stream_and_the_consumer_that_the_chassis_makes(
    nats_chart: Chart,
) -> None:
    found = trigger(nats_chart)
    assert found["type"] == "nats-jetstream"
    assert found["metadata"] == {
        "natsServerMonitoringEndpoint": "nats.messaging:8222",
        "useHttps": "false",
        "account": "$G",
        "stream": EVENTS,
        "consumer": name_in_code(nats_chart),
        "lagThreshold": "100",
    }


def test_keda_may_ask_by_https_about_an_account_of_its_own(nats_chart: Chart) -> None:
    metadata = trigger(nats_chart, natsHttps=True, natsAccount="PAYMENTS")["metadata"]
    assert (metadata["useHttps"], metadata["account"]) == ("true", "PAYMENTS")


def test_keda_may_have_a_login_of_its_own(chart: Chart, nats_chart: Chart) -> None:
    reference = {"name": "broker", "kind": "ClusterTriggerAuthentication"}
    for each in (chart, nats_chart):
        assert trigger(each, authenticationRef=reference)["authenticationRef"] == reference
        assert "authenticationRef" not in trigger(each)
    alone = trigger(chart, authenticationRef={"name": "broker"}, hostFromEnv="")
    assert alone["authenticationRef"] == {"name": "broker", "kind": "TriggerAuthentication"}
    assert "hostFromEnv" not in alone["metadata"]


def test_keda_finds_the_brokers_url_in_the_worker(chart: Chart) -> None:
    manifests = chart.render(KEDA)
    target = one(manifests, "ScaledObject")["spec"]["scaleTargetRef"]
    deployment = one(manifests, target["kind"], target["name"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["name"] == target["envSourceContainerName"]
    assert container["envFrom"] == [{"configMapRef": {"name": "billing-svc"}}]
    assert "CHASSIS_BUS_URL" in one(manifests, "ConfigMap")["data"]


def test_while_the_backlog_cannot_be_seen_nothing_is_scaled_in(chart: Chart) -> None:
    fallback = one(chart.render(KEDA), "ScaledObject")["spec"]["fallback"]
    assert fallback == {"failureThreshold": 4, "replicas": 2, "behavior": "currentReplicasIfHigher"}


def test_the_workers_have_replicas_unless_an_autoscaler_has_them(chart: Chart) -> None:
    assert one(chart.render({**ADDRESSES, "replicas": 3}), "Deployment")["spec"]["replicas"] == 3
    assert one(chart.render({**ADDRESSES, "replicas": 0}), "Deployment")["spec"]["replicas"] == 0
    for values in (KEDA, HPA):
        assert "replicas" not in one(chart.render(values), "Deployment")["spec"]


def test_an_autoscaler_that_is_turned_on_keeps_the_replicas_that_run(
    chart: Chart, tmp_path: Path
) -> None:
    """A manifest without the number would reset it to 1: Helm takes out what it had put in."""
    there = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 7}}
    shutil.copytree(chart.path, tmp_path / "chart")
    # Helm shows no manifest that it cannot validate: the number is read from a refusal.
    (tmp_path / "chart/templates/zz.yaml").write_text(
        '{{ $it := include (print .Template.BasePath "/worker.yaml") . | fromYaml }}'
        '{{ fail (printf "replicas are %v" $it.spec.replicas) }}'
    )
    values = {**HPA, "podDisruptionBudget": {"enabled": False}}
    with (
        cluster({"/apis/apps/v1/namespaces/prod/deployments/billing-svc": there}) as kubeconfig,
        Config(kubeconfig_content=kubeconfig, namespace="prod", storage_driver="memory") as config,
        pytest.raises(HelmError, match="replicas are 7"),
    ):
        config.install(str(tmp_path / "chart"), "billing-svc", dict(values), dry_run="server")


def test_a_service_that_has_just_been_installed_does_not_start_at_the_maximum(
    nats_chart: Chart,
) -> None:
    """KEDA takes the whole stream for the lag of a consumer that does not exist yet.

    The first workers make the consumer while the scaler still waits.
    """
    scaled = one(nats_chart.render({**KEDA, **nats_chart.addresses}), "ScaledObject")["spec"]
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"] == {"stabilizationWindowSeconds": 60}


def test_the_other_autoscaler_goes_by_cpu(chart: Chart) -> None:
    manifests = chart.render(HPA)
    assert "ScaledObject" not in kinds(manifests)
    spec = one(manifests, "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)
    assert spec["scaleTargetRef"]["name"] == one(manifests, "Deployment")["metadata"]["name"]
    assert [metric["resource"]["name"] for metric in spec["metrics"]] == ["cpu"]


def test_without_keda_in_the_cluster_the_replicas_hold_and_the_notes_say_so(chart: Chart) -> None:
    values = {**KEDA, "replicas": 4}
    manifests = chart.render(values, apis=())
    assert not {"ScaledObject", "HorizontalPodAutoscaler"} & kinds(manifests)
    assert one(manifests, "Deployment")["spec"]["replicas"] == 4
    assert (
        "this cluster does not know keda.sh/v1alpha1: nothing scales the 4 workers"
        in chart.notes(values)
    )
    assert "keda.sh" not in chart.notes(ADDRESSES)


def test_a_budget_paces_evictions_and_never_blocks_them(postgres_chart: Chart) -> None:
    values = {**ON_POSTGRES, "relay": {"replicas": 2}}
    for name in ("billing-svc", "billing-svc-relay"):
        manifests = postgres_chart.render(values)
        spec = one(manifests, "PodDisruptionBudget", name)["spec"]
        assert spec["maxUnavailable"] == 1
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert "minAvailable" not in spec
        assert spec["selector"] == one(manifests, "Deployment", name)["spec"]["selector"]


@pytest.mark.parametrize(
    ("values", "budgets"),
    [
        ({"replicas": 1}, 0),
        ({"replicas": 2}, 1),
        ({"replicas": 1, "autoscaling": {"minReplicas": 1, "hpa": {"enabled": True}}}, 1),
        ({"autoscaling": {"minReplicas": 1, "maxReplicas": 1, "hpa": {"enabled": True}}}, 0),
        ({"replicas": 2, "podDisruptionBudget": {"enabled": False}}, 0),
    ],
)
def test_a_single_replica_has_no_budget(chart: Chart, values: Values, budgets: int) -> None:
    manifests = chart.render({**ADDRESSES, **values})
    assert len([each for each in manifests if each["kind"] == "PodDisruptionBudget"]) == budgets


def test_replicas_are_spread_over_zones_and_nodes(postgres_chart: Chart) -> None:
    manifests = postgres_chart.render({**ON_POSTGRES, "topologySpread": {"zone": "DoNotSchedule"}})
    for name in ("billing-svc", "billing-svc-relay"):
        deployment = one(manifests, "Deployment", name)["spec"]
        spread = deployment["template"]["spec"]["topologySpreadConstraints"]
        assert {each["topologyKey"]: each["whenUnsatisfiable"] for each in spread} == {
            "topology.kubernetes.io/zone": "DoNotSchedule",
            "kubernetes.io/hostname": "ScheduleAnyway",
        }
        assert all(each["labelSelector"] == deployment["selector"] for each in spread)
