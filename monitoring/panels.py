"""What the dashboard of a service asks: rows of panels, each a question in words and in PromQL.

Knows the metrics of the chassis; knows nothing of Grafana but the names of its units.
"""

from dataclasses import dataclass
from typing import Literal

HERE = 'job=~"$job", instance=~"$instance"'
"""In every selector: the variables of the dashboard."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One question. `queries` are pairs of legend and PromQL; `unit` is one of Grafana's; `width` of 24 columns."""

    title: str
    description: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Literal["lines", "stack", "number"] = "lines"
    width: int = 8


def counter(name: str, *by: str, more: str = "") -> str:
    """Per second, summed up over the replicas, by the labels given."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate({name}{{{HERE}{more}}}[$__rate_interval]))"


def quantile(q: float, name: str, *by: str) -> str:
    return f"histogram_quantile({q:g}, {counter(f'{name}_bucket', 'le', *by)})"


def gauge(how: str, name: str, *by: str) -> str:
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"{how}{grouped} ({name}{{{HERE}}})"


def tried(*by: str, failed: bool = False) -> str:
    """Attempts that came to an end, all of them or the failed ones."""
    outcomes = "retried|dead|given_up" if failed else "done|retried|dead|given_up"
    return counter("messaging_client_consumed_messages_total", *by, more=f', outcome=~"{outcomes}"')


ROWS: dict[str, tuple[Panel, ...]] = {
    "At a glance": (
        Panel(
            "Ready",
            "Replicas that are ready. A drain, a broker or a store that is away make one unready.",
            "short",
            (("ready", gauge("sum", "chassis_ready")),),
            "number",
            4,
        ),
        Panel(
            "Finished",
            "Events handled to their end, duplicates included.",
            "ops",
            (
                (
                    "finished",
                    counter(
                        "messaging_client_consumed_messages_total",
                        more=', outcome=~"done|duplicate"',
                    ),
                ),
            ),
            "number",
            4,
        ),
        Panel(
            "Failed attempts",
            "Share of the attempts that failed: the event is tried again, given up, or a dead letter.",
            "percentunit",
            (("failed", f"{tried(failed=True)} / ({tried()} > 0) or 0 * {tried()}"),),
            "number",
            4,
        ),
        Panel(
            "Age, 99th percentile",
            "From the time an event happened to the end of its handling; one in a hundred takes longer.",
            "s",
            (("p99", quantile(0.99, "chassis_event_age_seconds")),),
            "number",
            4,
        ),
        Panel(
            "Backlog",
            "Events at the broker that no replica has taken yet, without those that wait for a later attempt.",
            "short",
            (("waiting", gauge("max", "chassis_backlog_messages")),),
            "number",
            4,
        ),
        Panel(
            "Dead letters",
            "Kept at the broker until somebody replays or discards them: `dlq list` shows them.",
            "short",
            (("waiting", gauge("max", "chassis_dead_letters_waiting")),),
            "number",
            4,
        ),
    ),
    "Golden signals": (
        Panel(
            "Traffic by outcome",
            "Deliveries settled. Busy: another replica had the claim. Handed back: for another replica, not started.",
            "ops",
            (("{{outcome}}", counter("messaging_client_consumed_messages_total", "outcome")),),
            "stack",
        ),
        Panel(
            "Errors",
            "Share of the attempts that failed, by event type.",
            "percentunit",
            (
                (
                    "{{type}}",
                    counter(
                        "messaging_client_consumed_messages_total",
                        "type",
                        more=', outcome=~"retried|dead"',
                    )
                    + " / "
                    + counter(
                        "messaging_client_consumed_messages_total",
                        "type",
                        more=', outcome=~"done|retried|dead"',
                    ),
                ),
            ),
        ),
        Panel(
            "Latency",
            "Age of the events when their handling ends, by type: 99th percentile and median.",
            "s",
            (
                ("{{type}} p99", quantile(0.99, "chassis_event_age_seconds", "type")),
                ("{{type}} p50", quantile(0.5, "chassis_event_age_seconds", "type")),
            ),
        ),
        Panel(
            "Saturation: in flight",
            "Deliveries taken and not settled yet, by replica. At the prefetch, a replica can take no more.",
            "short",
            (("{{instance}}", gauge("sum", "chassis_in_flight_messages", "instance")),),
            "stack",
        ),
        Panel(
            "Saturation: CPU",
            "Cores in use, by replica. A replica has one event loop and gains nothing from a second core.",
            "short",
            (("{{instance}}", counter("process_cpu_seconds_total", "instance")),),
        ),
        Panel(
            "Saturation: lag of the event loop",
            "How late the loop wakes up. More than half a second means that a handler blocks it.",
            "s",
            (("{{instance}}", gauge("max", "chassis_event_loop_lag_seconds", "instance")),),
        ),
    ),
    "Handlers": (
        Panel(
            "Duration",
            "Time that handlers take, publishing included: 99th percentile and median.",
            "s",
            (
                (
                    "{{handler}} p99",
                    quantile(0.99, "messaging_process_duration_seconds", "handler"),
                ),
                ("{{handler}} p50", quantile(0.5, "messaging_process_duration_seconds", "handler")),
            ),
        ),
        Panel(
            "Calls",
            "Attempts of each handler, whatever came of them.",
            "ops",
            (("{{handler}}", counter("messaging_process_duration_seconds_count", "handler")),),
        ),
        Panel(
            "Failures",
            "Attempts that raised or timed out.",
            "ops",
            (("{{handler}}", counter("chassis_handler_failures_total", "handler")),),
        ),
    ),
    "Inbox": (
        Panel(
            "Claims",
            "What the inbox said. Duplicate: handled before. Busy: another replica is at it. Mismatch: other body.",
            "ops",
            (("{{outcome}}", counter("chassis_inbox_claims_total", "outcome")),),
            "stack",
        ),
        Panel(
            "Leases lost",
            "Claims that ended while the handler still ran. Any at all is worth a look at the runbook LeasesLost.",
            "ops",
            (("{{instance}}", counter("chassis_inbox_leases_lost_total", "instance")),),
        ),
        Panel(
            "Store reachable, consumer paused",
            "1 while the inbox store answers; 1 for each reason for which the consumer pauses by itself.",
            "short",
            (
                (
                    "store reachable {{instance}}",
                    gauge("min", "chassis_inbox_reachable", "instance"),
                ),
                ("paused: {{reason}}", gauge("max", "chassis_consumer_paused", "reason")),
            ),
        ),
    ),
    "Dead letters": (
        Panel(
            "Arriving",
            "Dead letters within the interval, by reason. The reference of the messages says what each reason means.",
            "short",
            (
                (
                    "{{reason}}",
                    f"sum by (reason) (increase(chassis_dead_letters_total{{{HERE}}}[$__rate_interval]))",
                ),
            ),
            "stack",
            12,
        ),
        Panel(
            "Waiting",
            "Dead letters at the broker. It takes no more than 100,000; then events that die stay in the queue.",
            "short",
            (("waiting", gauge("max", "chassis_dead_letters_waiting")),),
            width=12,
        ),
    ),
    "Bus": (
        Panel(
            "Backlog",
            "Events at the broker that no replica has taken yet.",
            "short",
            (("waiting", gauge("max", "chassis_backlog_messages")),),
        ),
        Panel(
            "Published",
            "Events that handlers published, by what came of it. Failed ones come again with the next attempt.",
            "ops",
            (
                (
                    "{{type}} {{outcome}}",
                    counter("messaging_client_sent_messages_total", "type", "outcome"),
                ),
            ),
        ),
        Panel(
            "Time to confirm",
            "Until the broker had stored all that one handling published: 99th percentile and median.",
            "s",
            (
                ("p99", quantile(0.99, "messaging_client_operation_duration_seconds")),
                ("p50", quantile(0.5, "messaging_client_operation_duration_seconds")),
            ),
        ),
        Panel(
            "Connected",
            "1 while the connection to the broker is up.",
            "short",
            (("{{instance}}", gauge("min", "chassis_bus_connected", "instance")),),
        ),
        Panel(
            "Reconnects",
            "Connections that were lost and are back.",
            "ops",
            (("{{instance}}", counter("chassis_bus_reconnects_total", "instance")),),
        ),
        Panel(
            "Acknowledgements in a batch",
            "Deliveries acknowledged with one frame, on average. More under load; NATS takes them one by one.",
            "short",
            (
                (
                    "mean",
                    f"{counter('chassis_bus_ack_batch_size_sum')} / {counter('chassis_bus_ack_batch_size_count')}",
                ),
            ),
        ),
    ),
    "Outbox": (
        Panel(
            "Waiting to be published",
            "Events in the outbox. Always 0 in services whose inbox is not in PostgreSQL: they have none.",
            "short",
            (("waiting", gauge("max", "chassis_outbox_messages")),),
            width=12,
        ),
        Panel(
            "Age of the oldest",
            "How long the oldest event in the outbox has waited for a relay to publish it.",
            "s",
            (("oldest", gauge("max", "chassis_outbox_age_seconds")),),
            width=12,
        ),
    ),
    "Cached network calls": (
        Panel(
            "Calls, by what answered them",
            "An answer that was kept, another caller's call, or a call upstream. Empty without `chassis.calls`.",
            "ops",
            (("{{outcome}}", counter("chassis_cached_calls_total", "outcome")),),
            "stack",
        ),
        Panel(
            "Upstream, by function",
            "Calls that a cached function made upstream. This is the load on the other side.",
            "ops",
            (
                (
                    "{{function}}",
                    counter("chassis_cached_calls_total", "function", more=', outcome="miss"'),
                ),
            ),
        ),
        Panel(
            "Failed upstream, by function",
            "Calls upstream that raised or took longer than their timeout.",
            "ops",
            (("{{function}}", counter("chassis_cached_call_failures_total", "function")),),
        ),
    ),
    "Starts and drains": (
        Panel(
            "Drain",
            "Seconds since a replica began to drain, 0 before, and how long it may take.",
            "s",
            (
                ("{{instance}}", gauge("max", "chassis_drain_seconds", "instance")),
                ("deadline", gauge("min", "chassis_drain_deadline_seconds")),
            ),
        ),
        Panel(
            "Abandoned",
            "Handlings cancelled at a drain's deadline, as far as anybody scraped the replica in its last moments.",
            "short",
            (
                (
                    "{{instance}}",
                    f"sum by (instance) (increase(chassis_drain_abandoned_messages_total{{{HERE}}}[$__rate_interval]))",
                ),
            ),
        ),
        Panel(
            "Running since",
            "Age of each process. One that keeps falling to nothing is in a crash loop.",
            "s",
            (
                (
                    "{{instance}}",
                    f"time() - {gauge('max', 'process_start_time_seconds', 'instance')}",
                ),
            ),
        ),
        Panel(
            "Memory",
            "Resident memory, by replica.",
            "bytes",
            (("{{instance}}", gauge("max", "process_resident_memory_bytes", "instance")),),
        ),
        Panel(
            "Ready",
            "1 while a replica is ready.",
            "short",
            (("{{instance}}", gauge("min", "chassis_ready", "instance")),),
        ),
        Panel(
            "Versions",
            "Replicas, by the version of the service and of the chassis.",
            "short",
            (
                (
                    "{{version}}, chassis {{chassis}}",
                    gauge("count", "chassis_build_info", "version", "chassis"),
                ),
            ),
            "stack",
        ),
    ),
}
