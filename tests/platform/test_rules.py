"""The platform's rules are valid, and every alert fires exactly when it should."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.brokers.binaries import find
from tests.platform.rules import (
    COMPONENTS,
    PLATFORM,
    RULES,
    Case,
    Rule,
    cases_of,
    every_rule,
    rules_of,
)
from tests.platform.series import named, unknown
from tests.template import lab


def promtool(
    folder: Path, rules: Mapping[str, Rule], cases: Sequence[Case]
) -> subprocess.CompletedProcess[str]:
    """Each case evaluates its own rule alone, at its own pace."""
    for number, case in enumerate(cases):
        rule = {"groups": [{"name": "all", "rules": [rules[case.alert]]}]}
        (folder / f"{number}-rule.yaml").write_text(yaml.safe_dump(rule))
        test: dict[str, Any] = {
            "rule_files": [f"{number}-rule.yaml"],
            "evaluation_interval": case.interval,
        }
        test["tests"] = [case.as_promtool(rules[case.alert])]
        (folder / f"{number}-test.yaml").write_text(yaml.safe_dump(test))
    return subprocess.run(
        [find("promtool"), "test", "rules", *(f"{i}-test.yaml" for i in range(len(cases)))],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("component", COMPONENTS)
def test_prometheus_takes_the_rules_and_finds_nothing_to_object_to(component: str) -> None:
    path = RULES / f"{component}.yaml"
    lab.run([find("promtool"), "check", "rules", "--lint=all", "--lint-fatal", path], RULES)


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_alert_fires_when_it_should_and_does_not_when_it_should_not(
    component: str, tmp_path: Path
) -> None:
    rules, cases = rules_of(component), list(cases_of(component))
    for fires in (True, False):
        assert {case.alert for case in cases if (case.labels is not None) == fires} == rules.keys()
    done = promtool(tmp_path, {name: {**r, "annotations": {}} for name, r in rules.items()}, cases)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("component", COMPONENTS)
def test_what_an_alert_says_is_complete(component: str, tmp_path: Path) -> None:
    """promtool shows an alert's words when others were expected."""
    cases = [case for case in cases_of(component) if case.labels is not None]
    said = promtool(tmp_path, rules_of(component), cases).stderr
    assert said.count("summary=") == len(cases)
    assert "<error" not in said
    assert "no value" not in said


def test_an_alert_says_how_bad_it_is_whose_it_is_and_where_to_read_on() -> None:
    for component in COMPONENTS:
        for name, rule in rules_of(component).items():
            assert rule["labels"].keys() == {"severity", "component", "team"}
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert (rule["labels"]["component"], rule["labels"]["team"]) == (component, "platform")
            assert rule["annotations"].keys() - {"threshold"} == {
                "summary",
                "description",
                "runbook_url",
            }
            assert rule["annotations"]["runbook_url"].endswith(f"/platform/runbooks/{name}.md")
            assert (PLATFORM / f"runbooks/{name}.md").is_file()


def test_a_threshold_stands_once_in_its_expression_where_the_chart_finds_it() -> None:
    for name, rule in every_rule().items():
        threshold = rule["annotations"].get("threshold")
        if threshold is not None:
            found = re.findall(rf"[<>=*] {re.escape(threshold)}(?![\d.])", rule["expr"])
            assert len(found) == 1, name


def test_no_two_alerts_share_a_name() -> None:
    assert len(every_rule()) == sum(len(rules_of(component)) for component in COMPONENTS)


def test_the_rules_ask_for_nothing_that_nobody_shows() -> None:
    for name, rule in every_rule().items():
        assert named(rule["expr"]), name
        assert unknown(rule["expr"]) == set(), name


@pytest.mark.parametrize("component", [each for each in COMPONENTS if each != "kubernetes"])
def test_the_rules_of_a_component_look_at_its_jobs_alone(component: str) -> None:
    jobs = (f'job="{component}"', f'job="{component}-detailed"')
    for name, rule in rules_of(component).items():
        selectors = re.findall(r"\{([^{}]*)\}", rule["expr"])
        assert selectors
        for selector in selectors:
            assert any(job in selector for job in jobs) or "service=~" in selector, name
