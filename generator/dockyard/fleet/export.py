"""A fleet's rows for other programs: metrics for Prometheus, a table as CSV. Decides nothing."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from dockyard.fleet.policy import oldest_drift
from dockyard.fleet.status import Row
from dockyard.programs.tree import shown

_COLUMNS = (
    "service",
    "groups",
    "state",
    "template",
    "version",
    "target",
    "behind",
    "outdated_since",
    "drifted_files",
    "drifted_since",
    "conflicts",
    "branches",
    "breaches",
    "waived",
    "message",
)
_FORMULA = ("=", "+", "-", "@", "\t")
"""With these a table program takes a text for a formula."""


def as_csv(rows: Iterable[Row]) -> str:
    """One line a service, with a head."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    for row in rows:
        table.writerow([_cell(each) for each in _line(row)])
    return text.getvalue()


def as_prometheus(rows: Sequence[Row], now: datetime) -> str:
    """Gauges in the text format, for a textfile collector."""
    checked: list[tuple[dict[str, str], float]] = [({}, now.timestamp())]
    info = [(_info(row), 1.0) for row in rows]
    gauges = [
        ("service_info", "How each service of the fleet stands; always 1.", info),
        *(
            (name, text, [({"service": row.name}, value(row, now)) for row in rows])
            for name, text, value in _GAUGES
        ),
        ("fleet_checked_timestamp_seconds", "When the fleet was looked at.", checked),
    ]
    lines = []
    for name, text, samples in gauges:
        lines += [f"# HELP dockyard_{name} {text}", f"# TYPE dockyard_{name} gauge"]
        lines += [f"dockyard_{name}{_labels(named)} {value:.0f}" for named, value in samples]
    return "\n".join([*lines, ""])


_GAUGES: tuple[tuple[str, str, Callable[[Row, datetime], float]], ...] = (
    (
        "service_behind_releases",
        "Releases of the template that the service lacks.",
        lambda row, _: row.behind,
    ),
    (
        "service_behind_seconds",
        "Age of the oldest release that the service lacks.",
        lambda row, now: _seconds(row.lacking_since, now),
    ),
    (
        "service_drifted_files",
        "Managed files that differ from the render.",
        lambda row, _: len(row.drift),
    ),
    (
        "service_drift_seconds",
        "Age of the oldest drift.",
        lambda row, now: _seconds(oldest_drift(row), now),
    ),
    (
        "service_conflicts",
        "Files that a person has to look at before the next update.",
        lambda row, _: len(row.conflicts),
    ),
    (
        "service_policy_breaches",
        "What breaks the policy of the fleet file.",
        lambda row, _: len(row.breaches),
    ),
)


def _info(row: Row) -> dict[str, str]:
    return {
        "service": row.name,
        "groups": ",".join(row.groups),
        "state": row.state,
        "template": row.template,
        "version": row.recorded,
        "target": row.target,
    }


def _line(row: Row) -> Sequence[str]:
    return (
        row.name,
        " ".join(row.groups),
        row.state,
        row.template,
        row.recorded,
        row.target,
        str(row.behind),
        _date(row.lacking_since),
        str(len(row.drift)),
        _date(oldest_drift(row)),
        str(len(row.conflicts)),
        " ".join(row.branches),
        "; ".join(row.breaches),
        "; ".join(row.waived),
        row.message,
    )


def _cell(text: str) -> str:
    safe = shown(text)
    return f"'{safe}" if safe.startswith(_FORMULA) else safe


def _date(moment: datetime | None) -> str:
    return moment.date().isoformat() if moment else ""


def _seconds(since: datetime | None, now: datetime) -> float:
    return round(max(0.0, (now - since).total_seconds())) if since else 0


def _labels(values: Mapping[str, str]) -> str:
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items())
    return f"{{{told}}}" if told else ""


def _escaped(value: str) -> str:
    return shown(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
