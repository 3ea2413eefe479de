"""The panels of a service's processes. Knows the metrics of the chassis, nothing of Grafana."""

from monitoring.panel import HERE, Panel, counter, gauge

ACTIVE = f'max by (process) (chassis_processes{{{HERE}, status="active"}})'

PROCESSES = (
    Panel(
        "Active processes",
        "Processes that have started and not ended. Empty without a process.",
        "short",
        (("{{process}}", ACTIVE),),
    ),
    Panel(
        "Idle for longest",
        "How long the longest idle active process has waited, its wake-ups left out.",
        "s",
        (("{{process}}", gauge("max", "chassis_process_idle_seconds", "process")),),
    ),
    Panel(
        "Steps, by outcome",
        "Conflicts cost a repetition. Missing: the event came before its process had started.",
        "ops",
        (("{{outcome}}", counter("chassis_process_steps_total", "outcome")),),
        "stack",
    ),
)
