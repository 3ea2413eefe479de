"""The fleet's dashboard: one row for every service, with a link to its own dashboard."""

from grafana_foundation_sdk.builders import prometheus, table
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

HERE = 'namespace=~"$namespace"'

COLUMNS: dict[str, tuple[str, str, str]] = {
    "A": ("Ready", "short", f"sum by (namespace, job) (chassis_ready{{{HERE}}})"),
    "B": ("Backlog", "short", f"max by (namespace, job) (chassis_backlog_messages{{{HERE}}})"),
    "C": (
        "Age, 99th percentile",
        "s",
        (
            "histogram_quantile(0.99, sum by (namespace, job, le) "
            f"(rate(chassis_event_age_seconds_bucket{{{HERE}}}[$__rate_interval])))"
        ),
    ),
    "D": (
        "Dead letters",
        "short",
        f"max by (namespace, job) (chassis_dead_letters_waiting{{{HERE}}})",
    ),
    "E": (
        "Budget left",
        "percentunit",
        (
            f"1 - max by (namespace, job) (chassis:failed_ratio:rate3d{{{HERE}}}) / on (job) "
            "group_left () max by (job) (chassis:objective:failed_ratio)"
        ),
    ),
    "F": (
        "Replicas",
        "short",
        (
            "topk by (namespace, job) (1, count by (namespace, job, version, chassis) "
            f"(chassis_build_info{{{HERE}}}))"
        ),
    ),
}
"""Title, unit and PromQL, by reference of the query. All have the labels `namespace` and `job`."""


def services(source: DataSourceRef) -> table.Panel:
    """One row for each service; `version` and `chassis` (the template's version) label F."""
    panel = (
        table.Panel()
        .title("Services")
        .description(
            "One row for each service. Budget left: of the failures that the objective allows, over"
            " three days. A service in the middle of a rollout shows the version of most replicas."
        )
        .datasource(source)
        .span(24)
        .height(18)
    )
    for ref, (_, unit, expr) in COLUMNS.items():
        panel.with_target(
            prometheus.Dataquery()
            .ref_id(ref)
            .datasource(source)
            .expr(expr)
            .instant()
            .format(PromQueryFormat.TABLE)
            .legend_format(ref)
        )
        panel.override_by_name(f"Value #{ref}", [DynamicConfigValue("unit", unit)])
    link = {
        "title": "Its own dashboard",
        "url": "/dashboards?tag=chassis&query=${__data.fields.Service}",
        "targetBlank": False,
    }
    panel.override_by_name("Service", [DynamicConfigValue("links", [link])])
    names = {f"Value #{ref}": title for ref, (title, _, _) in COLUMNS.items()}
    names |= {"job": "Service", "namespace": "Namespace", "version": "Version"}
    names["chassis"] = "Template version"
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        DataTransformerConfig(
            id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": names}
        )
    )
    return panel
