"""The rules are valid. Every alert is explained, of this chassis, and tested in both directions."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.brokers.binaries import find
from tests.monitoring.rules import Rules, exported, metrics_of
from tests.template import lab

UNIT_TESTS = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))
DASHBOARD = json.loads(
    (Path(__file__).parents[2] / "template/deploy/chart/files/dashboard.json").read_text("utf-8")
)
OF_KUBERNETES = {
    "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_horizontalpodautoscaler_status_current_replicas",
    "kube_pod_container_status_restarts_total",
    "kube_pod_container_status_waiting_reason",
}


def test_prometheus_takes_the_rules_and_finds_nothing_to_object_to(rules: Rules) -> None:
    lab.run(
        [find("promtool"), "check", "rules", "--lint=all", "--lint-fatal", rules.path],
        rules.path.parent,
    )


def test_every_alert_has_unit_tests_and_every_unit_test_an_alert(rules: Rules) -> None:
    assert [path.stem for path in UNIT_TESTS] == sorted(rules.alerts)


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_the_alert_fires_when_it_should_and_does_not_when_it_should_not(
    path: Path, rules: Rules, tmp_path: Path
) -> None:
    cases = yaml.safe_load(path.read_text("utf-8"))["tests"]
    outcomes = set()
    for case in cases:
        (check,) = case["alert_rule_test"]
        fires = bool(check["exp_alerts"])
        outcomes.add(fires)
        assert check["alertname"] == path.stem
        assert case["name"].startswith("fires " if fires else "does not fire ")
    assert outcomes == {True, False}
    shutil.copy(rules.path, tmp_path)
    shutil.copy(path, tmp_path)
    lab.run([find("promtool"), "test", "rules", path.name], tmp_path)


def test_an_alert_says_how_bad_it_is_what_happens_and_where_to_read_on(
    rules: Rules, rendered: Path
) -> None:
    for alert in rules.alerts.values():
        whose = {"service": "billing-svc", "job": "billing-svc", "team": "platform"}
        assert alert.labels == whose | {"owner": "platform", "severity": alert.labels["severity"]}
        assert alert.labels["severity"] in {"critical", "warning"}
        words = {"summary", "description", "runbook_url", "dashboard_url"}
        assert alert.annotations.keys() == words
        assert alert.annotations["dashboard_url"] == f"/d/{DASHBOARD['uid']}?var-job=billing-svc"
        assert "billing-svc" in alert.annotations["summary"]
        link = f"https://git.example.com/acme/billing-svc/blob/main/docs/runbooks/{alert.name}.md"
        assert alert.annotations["runbook_url"] == link
        assert (rendered / f"docs/runbooks/{alert.name}.md").is_file(), alert.name


def test_the_rules_ask_for_nothing_that_nobody_shows(rules: Rules) -> None:
    known = exported() | OF_KUBERNETES | {"up"} | rules.records.keys()
    for expression in rules.expressions:
        named = metrics_of(expression)
        assert named <= known, expression
        assert named or expression.startswith("vector(")


def test_the_rules_look_at_this_service_alone(rules: Rules) -> None:
    for expression in rules.expressions:
        for selector in re.findall(r'\{((?:"[^"]*"|[^"}])*)\}', expression):
            assert "billing-svc" in selector, expression


def test_every_objective_is_asked_for(rules: Rules) -> None:
    objectives = {name for name in rules.records if name.startswith("chassis:objective:")}
    assert objectives
    assert objectives <= {
        name for alert in rules.alerts.values() for name in metrics_of(alert.expr)
    }


def test_the_chart_sets_every_objective_and_confines_every_rule_to_its_namespace(
    rules: Rules, rendered: Path
) -> None:
    template = (rendered / "deploy/chart/templates/prometheusrule.yaml").read_text("utf-8")
    assert set(re.findall(r'"(chassis:objective:\w+)"', template)) == {
        name for name in rules.records if name.startswith("chassis:objective:")
    }
    text = rules.path.read_text("utf-8")
    rule_groups = yaml.safe_load(text)["groups"]
    assert all(rule["record"].startswith("chassis:objective:") for rule in rule_groups[0]["rules"])
    assert 'job="billing-svc"' in text
    assert not re.search(r"""job=(?!"billing-svc")|job *=~""", "".join(rules.expressions))
