"""The platform's chart: what it renders, what its values change, and what it refuses."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
import yaml
from helm_python import HelmError, lint

from tests.brokers.binaries import find
from tests.platform.chart import CHART, EVERYTHING, alerts, render
from tests.platform.rules import COMPONENTS, PLATFORM, every_rule, rules_of
from tests.template import lab
from tests.template.chart.charts import Values, kinds, one
from tests.template.chart.schemas import KUBERNETES, check

ROOT = PLATFORM.parent


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_lint_finds_nothing(values: Values) -> None:
    found = lint(str(CHART), dict(values), strict=True, kube_version="v1.33.0")
    assert [m["error"] for m in found["messages"] if m["severity"] > 1] + found["errors"] == []


def test_every_manifest_fits_its_schema() -> None:
    manifests = render(EVERYTHING)
    assert kinds(manifests) == {
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "PodMonitor",
        "PrometheusRule",
    }
    for manifest in manifests:
        for kubernetes in KUBERNETES:
            check(manifest, kubernetes)


def test_names_are_unlike_each_other() -> None:
    names = [(m["kind"], m["metadata"]["name"]) for m in render(EVERYTHING)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_brings_its_rules_as_they_are_in_the_file(component: str) -> None:
    off = {other: {"enabled": other == component} for other in COMPONENTS}
    rendered = alerts(off)
    plain = rules_of(component)
    assert rendered.keys() == plain.keys()
    for name, rule in rendered.items():
        assert rule == plain[name], name


def test_only_what_is_asked_for_is_watched() -> None:
    labels = {rule["labels"]["component"] for rule in alerts({}).values()}
    assert labels == {"kubernetes"}
    boards = {m["metadata"]["name"] for m in render({}) if m["kind"] == "ConfigMap"}
    assert boards == {"platform-dashboard-fleet", "platform-dashboard-kubernetes"}


def test_one_alert_can_be_changed_and_another_left_out() -> None:
    change = {
        "RedisMemoryHigh": {
            "threshold": 0.7,
            "for": "1h",
            "severity": "critical",
            "labels": {"team": "stores", "page": "no"},
        },
        "RedisPersistenceOff": {"enabled": False},
    }
    found = alerts({**EVERYTHING, "alerts": change})
    rule = found["RedisMemoryHigh"]
    assert rule["expr"].rstrip().endswith("> 0.7")
    assert (rule["for"], rule["annotations"]["threshold"]) == ("1h", "0.7")
    assert rule["labels"] == {
        "severity": "critical",
        "component": "redis",
        "team": "stores",
        "page": "no",
    }
    assert found.keys() == every_rule().keys() - {"RedisPersistenceOff"}


def test_every_threshold_can_be_changed() -> None:
    names = [name for name, rule in every_rule().items() if "threshold" in rule["annotations"]]
    found = alerts({**EVERYTHING, "alerts": {name: {"threshold": 12345} for name in names}})
    for name in names:
        assert len(re.findall(r"[<>=*] 12345\b", found[name]["expr"])) == 1, name


def test_nodes_connections_and_jobs_of_the_values_reach_the_rules(tmp_path: Any) -> None:
    values = {
        "rabbitmq": {"enabled": True, "nodes": 5, "job": "broker"},
        "nats": {"enabled": True, "nodes": 1, "job": "bus"},
        "redis": {"enabled": True, "nodes": 1, "job": "cache"},
        "postgresql": {
            "enabled": True,
            "nodes": 4,
            "job": "db",
            "databaseConnections": 8,
            "services": "billing-.+",
        },
        "kubernetes": {"enabled": True, "kedaJob": "keda", "volumes": "data-.+"},
        "team": "sre",
        "runbooks": "https://wiki.example.com/runbooks/",
    }
    found = alerts(values)
    text = "".join(rule["expr"] for rule in found.values())
    for old in ("rabbitmq", "rabbitmq-detailed", "nats", "redis", "postgresql", "keda-operator"):
        assert f'job="{old}"' not in text
    assert found["RabbitMQNodeMissing"]["expr"].rstrip().endswith("< 5")
    assert "<= 5 / 2" in found["RabbitMQNoQuorum"]["expr"]
    assert 'service=~"billing-.+"}) * 8' in found["PostgreSQLConnectionsOvercommitted"]["expr"]
    assert 'persistentvolumeclaim=~"data-.+"' in found["VolumeFilling"]["expr"]
    assert {rule["labels"]["team"] for rule in found.values()} == {"sre"}
    link = found["NATSDown"]["annotations"]["runbook_url"]
    assert link == "https://wiki.example.com/runbooks/NATSDown.md"
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "all", "rules": list(found.values())}]})
    )
    lab.run([find("promtool"), "check", "rules", "rules.yaml"], tmp_path)
    monitors = [m["spec"] for m in render(values) if m["kind"] == "PodMonitor"]
    jobs = {
        relabeling["replacement"]
        for spec in monitors
        for endpoint in spec["podMetricsEndpoints"]
        for relabeling in endpoint["relabelings"]
    }
    assert jobs == {"broker", "broker-detailed", "bus", "cache", "db"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"rabbitmq": {"enable": True}}, "enable"),
        ({"alerts": {"RedisMemoryHigh": {"treshold": 1}}}, "treshold"),
        ({"alerts": {"RedisMemoryLow": {"enabled": False}}}, "RedisMemoryLow"),
        ({"alerts": {"RedisMemoryHigh": {"severity": "page"}}}, "severity"),
        ({"redis": {"exporter": {"urls": ["redis://user:secret@redis:6379"]}}}, "urls"),
        ({"kubernetes": {"volumes": 'x"} or vector(1)'}}, "volumes"),
        ({"alerts": {"KedaDown": {"threshold": 3}}}, "compares with no single number"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_and_named(values: Values, named: str) -> None:
    with pytest.raises(HelmError, match=named):
        render(values)


def test_a_cluster_without_the_operator_gets_none_of_its_resources() -> None:
    assert kinds(render(EVERYTHING, apis=())) == {"ConfigMap", "Deployment", "NetworkPolicy"}


def test_an_exporter_for_every_server_runs_with_no_rights() -> None:
    manifests = render({**EVERYTHING, "redis": {"enabled": True, "exporter": {"secret": "redis"}}})
    deployment = one(manifests, "Deployment", "platform-redis-exporter")
    pod = deployment["spec"]["template"]["spec"]
    assert [c["args"][0] for c in pod["containers"]] == [
        "--redis.addr=redis://redis-0.redis-headless:6379",
        "--redis.addr=redis://redis-1.redis-headless:6379",
    ]
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["envFrom"] == [{"secretRef": {"name": "redis"}}]
        assert ":" in container["image"]
        assert not container["image"].endswith(":latest")
    ports = [port["containerPort"] for c in pod["containers"] for port in c["ports"]]
    policy = one(manifests, "NetworkPolicy", "platform-redis-exporter")["spec"]
    assert [each["port"] for each in policy["ingress"][0]["ports"]] == ports == [9121, 9122]
    monitor = one(manifests, "PodMonitor", "platform-redis")["spec"]
    assert (
        monitor["selector"]["matchLabels"].items()
        <= deployment["spec"]["template"]["metadata"]["labels"].items()
    )
    assert [e["port"] for e in monitor["podMetricsEndpoints"]] == [
        c["ports"][0]["name"] for c in pod["containers"]
    ]


def test_the_schema_describes_every_value_and_the_defaults_fit_it() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    jsonschema.validate(values, schema)
    assert set(schema["properties"]["alerts"]["propertyNames"]["enum"]) == every_rule().keys()

    def closed(node: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        assert node["additionalProperties"] is False
        assert node["properties"].keys() - {"global"} == value.keys()
        for key, each in value.items():
            if isinstance(each, dict) and "properties" in node["properties"][key]:
                closed(node["properties"][key], each)

    closed(schema, values)


def test_the_files_for_whoever_has_no_helm_are_what_the_chart_renders() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitoring.shared", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for component in COMPONENTS:
        manifests = list(
            yaml.safe_load_all((PLATFORM / f"manifests/{component}.yaml").read_text("utf-8"))
        )
        rules = one(manifests, "PrometheusRule", f"platform-{component}")
        (group,) = rules["spec"]["groups"]
        assert {rule["alert"]: rule for rule in group["rules"]} == rules_of(component)
