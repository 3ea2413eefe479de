"""The chart of a service with an HTTP API: requests reach the workers, and only their API."""

from typing import Any

import pytest
from helm_python import HelmError

from tests.template.chart.charts import ADDRESSES, ON_POSTGRES, Chart, kinds, one, pods

GATEWAY = {"name": "public", "namespace": "gateways"}


def with_api(**api: Any) -> dict[str, Any]:
    return {**ADDRESSES, "api": {"enabled": True, **api}}


def test_a_service_without_an_api_has_no_service_and_no_port(chart: Chart) -> None:
    manifests = chart.render(ADDRESSES)
    assert kinds(manifests).isdisjoint({"Service", "HTTPRoute"})
    ports = pods(manifests)["worker"]["containers"][0]["ports"]
    assert [port["name"] for port in ports] == ["http"]
    assert len(one(manifests, "NetworkPolicy")["spec"]["ingress"]) == 1


def test_the_service_leads_to_the_api_of_the_workers_alone(postgres_chart: Chart) -> None:
    manifests = postgres_chart.render({**ON_POSTGRES, "api": {"enabled": True, "port": 8081}})
    spec = one(manifests, "Service")["spec"]
    assert spec["selector"]["app.kubernetes.io/component"] == "worker"
    assert [(port["port"], port["targetPort"]) for port in spec["ports"]] == [(8081, "api")]
    named = {
        component: [port["name"] for port in pod["containers"][0].get("ports", [])]
        for component, pod in pods(manifests).items()
    }
    assert named["worker"] == ["http", "api"]
    assert named["relay"] == ["http"]


def test_the_network_policy_opens_the_api_to_its_callers(chart: Chart) -> None:
    callers = [{"podSelector": {"matchLabels": {"app": "gateway"}}}]
    values = with_api() | {"networkPolicy": {"api": {"from": callers}}}
    _, rule = one(chart.render(values), "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["api"]
    assert rule["from"] == callers


def test_the_route_belongs_to_a_gateway_and_leads_to_the_service(chart: Chart) -> None:
    values = with_api(route={"enabled": True, "gateways": [GATEWAY], "path": "/billing"})
    manifests = chart.render(values)
    spec = one(manifests, "HTTPRoute")["spec"]
    [rule] = spec["rules"]
    assert spec["parentRefs"] == [GATEWAY]
    assert rule["matches"][0]["path"]["value"] == "/billing"
    assert rule["backendRefs"] == [
        {"name": one(manifests, "Service")["metadata"]["name"], "port": 80}
    ]


def test_a_worker_takes_requests_until_gateways_know_that_it_stops(chart: Chart) -> None:
    without, with_it = (pods(chart.render(values))["worker"] for values in (ADDRESSES, with_api()))
    assert "lifecycle" not in without["containers"][0]
    assert with_it["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][0] == "python"
    grace = "terminationGracePeriodSeconds"
    assert with_it[grace] == without[grace] + 5


@pytest.mark.parametrize(
    ("api", "sentence"),
    [
        (
            {"enabled": False, "route": {"enabled": True, "gateways": [GATEWAY]}},
            "there is no Service",
        ),
        ({"route": {"enabled": True}}, "name the Gateway that the route belongs to"),
    ],
)
def test_a_route_to_nowhere_is_refused(chart: Chart, api: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HelmError, match=sentence):
        chart.render(with_api(**api))


def test_a_route_needs_the_gateway_api_in_the_cluster(chart: Chart) -> None:
    values = with_api(route={"enabled": True, "gateways": [GATEWAY]})
    with pytest.raises(HelmError, match="does not know gateway"):
        chart.render(values, apis=())
