"""A panel: a question in words and in PromQL, and the words that many queries share.

Knows the labels of a service's series, no metric. Of Grafana it knows only the names of the units.
"""

from dataclasses import dataclass
from typing import Literal

HERE = 'job=~"$job", namespace=~"$namespace", instance=~"$instance"'
"""Part of every selector: the variables of the dashboard."""
THIS_SERVICE = 'job=~"$job", namespace=~"$namespace"'
"""Part of a selector of alerts, which are of no single replica."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One question.

    `queries` are pairs of legend and PromQL, `unit` is one of Grafana's, `width` counts in 24ths.
    """

    title: str
    description: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Literal["lines", "stack", "number"] = "lines"
    width: int = 8


def counter(name: str, *by: str, more: str = "") -> str:
    """Rate per second, summed over the replicas, by the labels given."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate({name}{{{HERE}{more}}}[$__rate_interval]))"


def increase(name: str, *by: str) -> str:
    """Growth within an interval of the panel, summed over the replicas, by the labels given."""
    return f"sum by ({', '.join(by)}) (increase({name}{{{HERE}}}[$__rate_interval]))"


def quantile(q: float, name: str, *by: str) -> str:
    return f"histogram_quantile({q:g}, {counter(f'{name}_bucket', 'le', *by)})"


def gauge(how: str, name: str, *by: str) -> str:
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"{how}{grouped} ({name}{{{HERE}}})"
