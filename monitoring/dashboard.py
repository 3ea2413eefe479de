"""Writes the dashboard of a service into the template. With --check it only compares.

`--check` names a stale dashboard and exits 1. One JSON file has the same bytes for every service:
the variable `job` chooses the service. Knows what Grafana expects of a dashboard; knows no metric.
"""

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
)

from monitoring.panel import THIS_SERVICE, Panel
from monitoring.panels import NEW_VERSION, ROWS

ROOT = Path(__file__).parents[1]
FILE = ROOT / "template" / "deploy" / "chart" / "files" / "dashboard.json"

TITLE = "Event-driven service"
UID = "event-driven-service"

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
FLEET = "/d/platform-fleet"
LINKS = {
    "RabbitMQ": "https://grafana.com/grafana/dashboards/10991-rabbitmq-overview/",
    "NATS JetStream": "https://grafana.com/grafana/dashboards/14725-nats-jetstream/",
    "Redis": "https://grafana.com/grafana/dashboards/763-redis-dashboard-for-prometheus-redis-exporter-1-x/",
    "PostgreSQL": "https://github.com/prometheus-community/postgres_exporter/tree/master/postgres_mixin",
}


def render() -> str:
    """The dashboard as JSON, with a newline at its end."""
    board = (
        dashboard.Dashboard(TITLE)
        .uid(UID)
        .description(
            "Managed. The signals of an event-driven service."
            " An update of the template may change it."
        )
        .tags(["events", "chassis"])
        .readonly()
        .time("now-6h", "now")
        .refresh("1m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables(
            [
                dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
                query_variable(
                    "namespace",
                    "Namespace",
                    "label_values(chassis_build_info, namespace)",
                    every=".*",  # outside of Kubernetes there is none
                ),
                query_variable(
                    "job",
                    "Job",
                    'label_values(chassis_build_info{namespace=~"$namespace"}, job)',
                ),
                query_variable(
                    "instance",
                    "Instance",
                    f"label_values(chassis_build_info{{{THIS_SERVICE}}}, instance)",
                ),
            ]
        )
        .annotation(
            dashboard.AnnotationQuery()
            .name("Releases")
            .datasource(SOURCE)
            .enable(True)
            .icon_color("blue")
            .expr(NEW_VERSION)
            .step("60s")
            .title_format("Version {{version}}")
        )
        .links(
            [
                dashboard.DashboardLink(title)
                .type(DashboardLinkType.LINK)
                .url(url)
                .target_blank(True)
                for title, url in LINKS.items()
            ]
        )
    )
    board.link(
        dashboard.DashboardLink("All services")
        .type(DashboardLinkType.LINK)
        .url(FLEET)
        .keep_time(True)
    )
    number = 0
    for title, panels in ROWS.items():
        number += 1
        board.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            board.with_panel(built_panel(panel).id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def query_variable(
    name: str, label: str, query: str, *, every: str = ".+"
) -> dashboard.QueryVariable:
    """A choice of several values, all of them at first."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(every)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def built_panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    """As Grafana wants it, without an id."""
    built = _number() if panel.kind == "number" else _lines(stacked=panel.kind == "stack")
    built.title(panel.title).description(panel.description).unit(panel.unit).datasource(
        SOURCE
    ).span(panel.width)
    built.height(4 if panel.kind == "number" else 8)
    for ref, (legend, expr) in zip("ABCDEFGH", panel.queries, strict=False):
        built.with_target(
            prometheus.Dataquery().ref_id(ref).datasource(SOURCE).expr(expr).legend_format(legend)
        )
    return built


def _number() -> stat.Panel:
    return stat.Panel().graph_mode(BigValueGraphMode.AREA)


def _lines(*, stacked: bool) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .min(0)
        .fill_opacity(40 if stacked else 5)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
    )
    return built.stacking(common.StackingConfig().mode(StackingMode.NORMAL)) if stacked else built


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when the file is stale"
    )
    check = parser.parse_args().check
    written = render()
    if FILE.is_file() and FILE.read_text("utf-8") == written:
        return 0
    if check:
        sys.stderr.write(
            f"{FILE.relative_to(ROOT)} is not what monitoring/dashboard.py says: run `make docs`\n"
        )
        return 1
    FILE.write_text(written, "utf-8")
    sys.stdout.write(f"wrote {FILE.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
