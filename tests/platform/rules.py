"""The platform's rules, one file a component, and short unit tests turned into promtool's form."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PLATFORM = Path(__file__).parents[2] / "platform"
RULES = PLATFORM / "chart/files/rules"
COMPONENTS = ("rabbitmq", "nats", "redis", "postgresql", "kubernetes")

Rule = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """At `at` the alert fires with `labels`, or does not if they are None.

    `series` have a value each `interval`.
    """

    alert: str
    series: Mapping[str, str]
    at: str
    interval: str
    labels: Mapping[str, str] | None

    def as_promtool(self, rule: Rule) -> dict[str, Any]:
        fired = [] if self.labels is None else [{"exp_labels": {**rule["labels"], **self.labels}}]
        return {
            "name": f"{self.alert} {'does not fire' if self.labels is None else 'fires'}",
            "interval": self.interval,
            "input_series": [
                {"series": name, "values": values} for name, values in self.series.items()
            ],
            "alert_rule_test": [
                {"eval_time": self.at, "alertname": self.alert, "exp_alerts": fired}
            ],
        }


def rules_of(component: str) -> Mapping[str, Rule]:
    """By the name of the alert."""
    groups = yaml.safe_load((RULES / f"{component}.yaml").read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def every_rule() -> Mapping[str, Rule]:
    return {name: rule for component in COMPONENTS for name, rule in rules_of(component).items()}


def cases_of(component: str) -> Iterator[Case]:
    path = Path(__file__).parent / "alerts" / f"{component}.yaml"
    for alert, sides in yaml.safe_load(path.read_text("utf-8")).items():
        for case in sides["fires"]:
            yield _case(alert, case, case["labels"])
        for case in sides["does not fire"]:
            yield _case(alert, case, None)


def _case(alert: str, case: Mapping[str, Any], labels: Mapping[str, str] | None) -> Case:
    return Case(alert, case["series"], case["at"], case.get("interval", "1m"), labels)
