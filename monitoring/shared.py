"""Writes what services share into platform/: dashboards, and manifests for clusters without Helm.

With --check it names stale files and exits 1. Knows the chart's place and its components; knows no
metric.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DashboardLinkType

from monitoring.components import BOARDS
from monitoring.dashboard import SOURCE, built_panel, query_variable
from monitoring.fleet import services

ROOT = Path(__file__).parents[1]
CHART = ROOT / "platform" / "chart"
MANIFESTS = ROOT / "platform" / "manifests"
COMPONENTS = ("rabbitmq", "nats", "redis", "postgresql", "kubernetes")


def dashboards() -> Mapping[Path, str]:
    """The text of each dashboard by its path."""
    boards = {"fleet": _fleet()}
    for component, (title, rows) in BOARDS.items():
        boards[component] = _board(component, title)
        number = 0
        for row, panels in rows.items():
            number += 1
            boards[component].with_row(dashboard.Row(row).id(number))
            for panel in panels:
                number += 1
                boards[component].with_panel(built_panel(panel).id(number))
    return {
        CHART / f"files/dashboards/{name}.json": JSONEncoder(sort_keys=True, indent=2).encode(
            board.build()
        )
        + "\n"
        for name, board in boards.items()
    }


def _board(name: str, title: str) -> dashboard.Dashboard:
    return (
        dashboard.Dashboard(f"Platform: {title}")
        .uid(f"platform-{name}")
        .tags(["events", "platform"])
        .readonly()
        .time("now-6h", "now")
        .refresh("1m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .link(
            dashboard.DashboardLink("Platform")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["platform"])
            .as_dropdown(True)
            .keep_time(True)
        )
    )


def _fleet() -> dashboard.Dashboard:
    namespaces = query_variable(
        "namespace", "Namespace", "label_values(chassis_build_info, namespace)"
    )
    return (
        _board("fleet", "all services").with_variable(namespaces).with_panel(services(SOURCE).id(1))
    )


def manifests() -> Mapping[Path, str]:
    """What the chart renders for each component alone, with its own values, but for dashboards."""
    from helm_python import Chart, _native  # noqa: PLC0415 - not to be had on every machine

    found = {}
    with Chart.load(str(CHART)) as chart:
        for component in COMPONENTS:
            values = {other: {"enabled": other == component} for other in COMPONENTS}
            options = {
                "name": "platform",
                "namespace": "monitoring",
                "api_versions": ["monitoring.coreos.com/v1"],
            }
            # The public method cannot say which API versions the cluster has.
            files = json.loads(
                _native.call_string(
                    "helm_render",
                    chart._raw(),  # noqa: SLF001 - see above
                    json.dumps({**values, "dashboards": {"enabled": False}}),
                    json.dumps(options),
                )
            )
            texts = [
                text.strip()
                for path, text in sorted(files.items())
                if path.endswith(".yaml") and text.strip()
            ]
            found[MANIFESTS / f"{component}.yaml"] = (
                "# What `helm template platform platform/chart --namespace monitoring` makes of "
                f"{component}. `make docs` writes it.\n" + "\n".join(texts) + "\n"
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when a file is stale"
    )
    check = parser.parse_args().check
    return _written(dashboards(), check=check) or _written(manifests(), check=check)


def _written(files: Mapping[Path, str], *, check: bool) -> int:
    for path, text in files.items():
        if path.is_file() and path.read_text("utf-8") == text:
            continue
        if check:
            sys.stderr.write(
                f"{path.relative_to(ROOT)} is not what monitoring/shared.py says: run `make docs`\n"
            )
            return 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
