"""What the chart makes of the rules and the dashboard, which are plain files in it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.brokers.binaries import find
from tests.template import lab
from tests.template.chart.charts import ADDRESSES, ON_POSTGRES, Chart, Manifest, one

OBJECTIVES = {
    "chassis:objective:age_seconds": "ageSeconds",
    "chassis:objective:failed_ratio": "failedRatio",
    "chassis:objective:outbox_age_seconds": "outboxAgeSeconds",
    "chassis:objective:process_idle_seconds": "processIdleSeconds",
}


def rules_of(manifests: list[Manifest]) -> list[dict[str, Any]]:
    (found,) = (each for each in manifests if each["kind"] == "PrometheusRule")
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def name_of_pod(deployment: str) -> str:
    """Kubernetes' name: the ReplicaSet's, cut to leave room for five random characters."""
    return f"{deployment}-5d8f7c9b4-"[:58] + "x2b4k"


def objectives_of(rules: list[dict[str, Any]]) -> dict[str, str]:
    return {rule["record"]: rule["expr"] for rule in rules if rule.get("record") in OBJECTIVES}


def dashboard_of(
    manifests: list[Manifest], name: str = "billing-svc"
) -> tuple[str, dict[str, Any]]:
    """The file's name, and what is in it."""
    ((file, text),) = one(manifests, "ConfigMap", f"{name}-dashboard")["data"].items()
    return file, json.loads(text)


def test_the_alerts_are_those_of_the_file_in_the_namespace_of_the_release(
    chart: Chart, tmp_path: Path
) -> None:
    manifests = chart.render(ADDRESSES)
    file = yaml.safe_load((chart.path / "files/rules.yaml").read_text("utf-8"))
    plain = [rule for group in file["groups"] for rule in group["rules"]]
    rendered = rules_of(manifests)
    _, dashboard = dashboard_of(manifests)
    link = {"dashboard_url": f"/d/{dashboard['uid']}"}
    for rule, before in zip(rendered, plain, strict=True):
        if "alert" in rule:
            assert rule["annotations"] == before["annotations"] | link
            assert rule["labels"] == before["labels"] | {"namespace": "prod"}
    for rule, before in zip(rendered, plain, strict=True):
        if rule.get("record") not in OBJECTIVES:
            assert rule["expr"] == before["expr"].replace(
                'job="billing-svc"', 'job="billing-svc", namespace="prod"'
            )
            assert rule.get("for") == before.get("for")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(one(manifests, "PrometheusRule")["spec"]))
    lab.run(
        [find("promtool"), "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"], tmp_path
    )


@pytest.mark.parametrize("release", ["billing-svc", "canary", "billing-svc.eu", "b" * 53])
def test_the_alerts_know_the_pods_and_the_autoscaler_of_the_release_by_their_names(
    postgres_chart: Chart, release: str
) -> None:
    values = ON_POSTGRES | {"autoscaling": {"keda": {"enabled": True}}}
    manifests = postgres_chart.render(values, name=release)
    text = "".join(rule["expr"] for rule in rules_of(manifests))
    (pods,), (scaler,) = (
        {re.compile(found) for found in re.findall(rf'\b{label}=~"([^"]+)"', text)}
        for label in ("pod", "horizontalpodautoscaler")
    )
    names = [each["metadata"]["name"] for each in manifests if each["kind"] == "Deployment"]
    assert len(names) == 2
    assert all(pods.fullmatch(name_of_pod(name)) for name in names)
    (scaled,) = (each["metadata"]["name"] for each in manifests if each["kind"] == "ScaledObject")
    assert scaler.fullmatch(scaled)
    assert scaler.fullmatch(f"keda-hpa-{scaled}")
    others = {f"{scaled}-archive", f"pre-{scaled}", f"{scaled}2", scaled.replace(".", "-")} - {
        scaled
    }
    for other in others:
        assert not scaler.fullmatch(other)
        assert not pods.fullmatch(name_of_pod(other)) or len(other) > 52, (
            "longer than a release's name can be"
        )


def test_the_objectives_of_the_values_are_those_of_the_file_until_a_service_sets_its_own(
    chart: Chart,
) -> None:
    file = yaml.safe_load((chart.path / "files/rules.yaml").read_text("utf-8"))
    defaults = yaml.safe_load((chart.path / "values.yaml").read_text("utf-8"))["monitoring"][
        "rules"
    ]["objectives"]
    assert defaults.keys() == set(OBJECTIVES.values())
    expected = objectives_of(file["groups"][0]["rules"])
    assert objectives_of(rules_of(chart.render(ADDRESSES))) == expected
    own = {
        "ageSeconds": 300,
        "failedRatio": 0.005,
        "outboxAgeSeconds": 5,
        "processIdleSeconds": 900,
    }
    rules = rules_of(chart.render(ADDRESSES | {"monitoring": {"rules": {"objectives": own}}}))
    assert objectives_of(rules) == {name: f"vector({own[key]})" for name, key in OBJECTIVES.items()}
    assert [rule["labels"] for rule in rules[:4]] == [
        {"job": "billing-svc", "namespace": "prod"}
    ] * 4


def test_two_releases_in_a_namespace_write_no_series_and_no_alert_of_each_other(
    chart: Chart,
) -> None:
    mine, others = (chart.render(ADDRESSES, name=name) for name in ("billing-svc", "canary"))
    for manifests, job in ((mine, "billing-svc"), (others, "canary-billing-svc")):
        endpoint = one(manifests, "PodMonitor", job)["spec"]["podMetricsEndpoints"][0]
        assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": job}]
        for rule in rules_of(manifests):
            assert set(re.findall(r'\bjob="([^"]*)"', rule["expr"])) <= {job}
            if "labels" in rule:
                assert rule["labels"]["job"] == job
            if "record" in rule:
                assert job in rule["expr"] or rule["labels"]["job"] == job


def test_a_single_alert_can_be_changed(chart: Chart) -> None:
    changed = {
        "NotReady": {"for": "1h", "severity": "critical", "labels": {"team": "sre", "page": "no"}},
        "CrashLoop": {"enabled": False},
    }
    monitoring = {
        "rules": {"team": "team-a", "alerts": changed},
        "dashboard": {"grafanaUrl": "https://grafana.example.com/"},
    }
    before = {rule.get("alert"): rule for rule in rules_of(chart.render(ADDRESSES))}
    manifests = chart.render(ADDRESSES | {"monitoring": monitoring})
    after = {rule.get("alert"): rule for rule in rules_of(manifests)}
    assert before.keys() - after.keys() == {"CrashLoop"}
    assert (after["NotReady"]["for"], before["NotReady"]["for"]) == ("1h", "10m")
    labels = after["NotReady"]["labels"]
    assert (labels["severity"], labels["team"], labels["page"]) == ("critical", "sre", "no")
    assert after["DrainOverrun"]["labels"]["team"] == "team-a"
    assert after["DrainOverrun"]["labels"]["owner"] == "team-payments"
    assert after["DrainOverrun"]["annotations"]["dashboard_url"].startswith(
        "https://grafana.example.com/d/billing-svc-"
    )


def test_the_dashboard_is_the_releases_own(chart: Chart) -> None:
    file, dashboard = dashboard_of(chart.render(ADDRESSES))
    other_file, other = dashboard_of(chart.render(ADDRESSES, name="canary"), "canary-billing-svc")
    assert (file, other_file) == (f"{dashboard['uid']}.json", f"{other['uid']}.json")
    assert dashboard["uid"] != other["uid"]
    assert len(dashboard["uid"]) <= 40, "Grafana takes no more"
    assert dashboard["title"] == "billing-svc in prod"
    queries = {variable["name"]: variable["query"] for variable in dashboard["templating"]["list"]}
    assert queries["job"] == 'label_values(chassis_build_info{job="billing-svc"}, job)'
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            assert "$job" not in target["expr"]
            assert 'job="billing-svc", namespace=~"$namespace"' in target["expr"]
    (chosen,) = (
        each["current"]["value"]
        for each in dashboard["templating"]["list"]
        if each["name"] == "namespace"
    )
    assert chosen == ["prod"]


def test_nobody_is_called_for_workers_that_are_not_wanted(chart: Chart) -> None:
    def names(**values: object) -> set[str]:
        return {
            rule["alert"]
            for rule in rules_of(chart.render({**ADDRESSES, **values}))
            if "alert" in rule
        }

    every = names()
    assert names(replicas=0) == every - {"NoReplicaReady"} != every
    assert names(replicas=0, autoscaling={"hpa": {"enabled": True}}) == every


def test_nothing_of_it_is_there_where_nobody_wants_it(chart: Chart) -> None:
    off = {"monitoring": {"rules": {"enabled": False}, "dashboard": {"enabled": False}}}
    manifests = chart.render(ADDRESSES | off)
    assert not [each for each in manifests if each["kind"] == "PrometheusRule"]
    assert not [each for each in manifests if each["metadata"]["name"].endswith("-dashboard")]
