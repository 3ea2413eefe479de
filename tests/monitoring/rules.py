"""A rule file as values, and the names in its expressions. Knows the rules' syntax, no alert."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from chassis.calls.counts import counts_of
from chassis.replica.web.requests import REQUESTS
from chassis.telemetry.leaders import LeaderMetrics
from chassis.telemetry.metrics import Metrics

_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")
_NAME = re.compile(r"(?<![\w:])[a-z_][\w:]*(?=\s*[{\[])")


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    expr: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rules:
    path: Path
    alerts: Mapping[str, Alert]
    records: Mapping[str, str]
    """Name of a recorded series and its expression."""

    @property
    def expressions(self) -> Sequence[str]:
        return [*self.records.values(), *(alert.expr for alert in self.alerts.values())]


def read(path: Path) -> Rules:
    rules = [
        rule
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]
    alerts = [
        Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"])
        for rule in rules
        if "alert" in rule
    ]
    return Rules(
        path,
        {alert.name: alert for alert in alerts},
        {rule["record"]: rule["expr"] for rule in rules if "record" in rule},
    )


def metrics_of(expression: str) -> set[str]:
    """The series that `expression` selects; each has to be written with its matchers."""
    return set(_NAME.findall(_STRING.sub('""', expression)))


def exported() -> set[str]:
    """Every series that a service shows, by the names that queries use."""
    counts_of("function")
    REQUESTS.labels("route", "method", "status")
    metrics = Metrics("service", "version", "version")
    metrics.processes.show("process", "active")
    LeaderMetrics(metrics.registry).show("leader", leading=True)
    metrics.for_type("type")
    metrics.for_handler("type", "handler")
    metrics.paused.labels("reason")
    metrics.published("type", "outcome")
    return {sample.name for family in metrics.registry.collect() for sample in family.samples}
