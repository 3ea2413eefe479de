"""What `check --json` prints."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from dockyard.servers.findings import Report


def of_reports(reports: Sequence[Report]) -> Mapping[str, object]:
    return {
        "good": all(report.good for report in reports),
        "components": [{"good": report.good, **asdict(report)} for report in reports],
    }
