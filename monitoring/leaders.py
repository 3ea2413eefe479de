"""The panels of a service's leaders. Knows the metrics of the chassis, nothing of Grafana."""

from monitoring.panel import HERE, Panel, counter, gauge

CHANGES = f"sum by (leader) (changes(chassis_leading{{{HERE}}}[$__rate_interval]))"

LEADERS = (
    Panel(
        "Leading replicas",
        "1 as long as one replica leads. Empty in a service without a leader.",
        "short",
        (("{{leader}}", gauge("sum", "chassis_leading", "leader")),),
    ),
    Panel(
        "Changes",
        "How often a replica began or ceased to lead. A rollout changes each leader.",
        "short",
        (("{{leader}}", CHANGES),),
    ),
    Panel(
        "Leaders that failed",
        "Bodies that raised; each is begun again after a pause.",
        "ops",
        (("{{leader}}", counter("chassis_leader_failures_total", "leader")),),
    ),
)
