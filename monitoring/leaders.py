"""The panels of a service's leaders. Knows the metrics of the chassis, nothing of Grafana."""

from monitoring.panel import Panel, counter, gauge

LEADERS = (
    Panel(
        "Leading replicas",
        "1 as long as one replica leads. Empty in a service without a leader.",
        "short",
        (("{{leader}}", gauge("sum", "chassis_leading", "leader")),),
    ),
    Panel(
        "Leaders that failed",
        "Bodies that raised; each is begun again after a pause.",
        "ops",
        (("{{leader}}", counter("chassis_leader_failures_total", "leader")),),
    ),
)
