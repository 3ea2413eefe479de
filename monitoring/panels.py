"""The questions of a service's dashboard: rows of panels.

Knows the metrics of the chassis, nothing of Grafana.
"""

from monitoring.leaders import LEADERS
from monitoring.panel import HERE, THIS_SERVICE, Panel, counter, gauge, increase, quantile
from monitoring.processes import PROCESSES
from monitoring.web import WEB

BATCHES = "chassis_bus_ack_batch_size"
NEW_VERSION = (
    f"count by (version) (chassis_build_info{{{HERE}}}) "
    f"unless count by (version) (chassis_build_info{{{HERE}}} offset 5m)"
)
"""Versions that were not there five minutes ago: a release."""


def tried(*by: str, failed: bool = False) -> str:
    """Attempts that ended: all of them, or the failed ones."""
    outcomes = "retried|dead|given_up" if failed else "done|retried|dead|given_up"
    return counter("messaging_client_consumed_messages_total", *by, more=f', outcome=~"{outcomes}"')


ROWS: dict[str, tuple[Panel, ...]] = {
    "At a glance": (
        Panel(
            "Ready",
            "Ready replicas. A drain, or a missing broker or store, makes a replica unready.",
            "short",
            (("ready", gauge("sum", "chassis_ready")),),
            "number",
            4,
        ),
        Panel(
            "Finished",
            "Events whose handling has ended, duplicates included.",
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
            "Share of failed attempts: the event is tried again, given up, or a dead letter.",
            "percentunit",
            (("failed", f"{tried(failed=True)} / ({tried()} > 0) or 0 * {tried()}"),),
            "number",
            4,
        ),
        Panel(
            "Age, 99th percentile",
            "Time from the event to the end of its handling. One event in a hundred takes longer.",
            "s",
            (("p99", quantile(0.99, "chassis_event_age_seconds")),),
            "number",
            4,
        ),
        Panel(
            "Backlog",
            "Events at the broker that no replica has taken yet, without waiting retries.",
            "short",
            (("waiting", gauge("max", "chassis_backlog_messages")),),
            "number",
            4,
        ),
        Panel(
            "Dead letters",
            "Dead letters that wait for a replay or a discard: `dlq list` shows them.",
            "short",
            (("waiting", gauge("max", "chassis_dead_letters_waiting")),),
            "number",
            4,
        ),
    ),
    "Alerts": (
        Panel(
            "Firing alerts",
            "Alerts of this service that fire. The annotation `runbook_url` says what to do.",
            "short",
            (
                (
                    "{{alertname}} ({{severity}})",
                    f'sum by (alertname, severity) (ALERTS{{alertstate="firing", {THIS_SERVICE}}})',
                ),
            ),
            "stack",
            24,
        ),
    ),
    "Golden signals": (
        Panel(
            "Traffic by outcome",
            "Settled deliveries. Busy: another replica has the claim. Handed back: not started.",
            "ops",
            (("{{outcome}}", counter("messaging_client_consumed_messages_total", "outcome")),),
            "stack",
        ),
        Panel(
            "Errors",
            "Share of failed attempts, by event type.",
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
            "Age of events when their handling ends, by type: 99th percentile and median.",
            "s",
            (
                ("{{type}} p99", quantile(0.99, "chassis_event_age_seconds", "type")),
                ("{{type}} p50", quantile(0.5, "chassis_event_age_seconds", "type")),
            ),
        ),
        Panel(
            "Saturation: in flight",
            "Deliveries that are not settled yet, by replica. The prefetch is the most it takes.",
            "short",
            (("{{instance}}", gauge("sum", "chassis_in_flight_messages", "instance")),),
            "stack",
        ),
        Panel(
            "Saturation: CPU",
            "Cores in use, by replica. A replica has one event loop and cannot use a second core.",
            "short",
            (("{{instance}}", counter("process_cpu_seconds_total", "instance")),),
        ),
        Panel(
            "Saturation: lag of the event loop",
            "Delay of the loop's wake-up. Above half a second, a handler blocks it.",
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
            "Attempts of each handler, with any outcome.",
            "ops",
            (("{{handler}}", counter("messaging_process_duration_seconds_count", "handler")),),
        ),
        Panel(
            "Failures",
            "Attempts that raised or timed out, and events that failed for the first time.",
            "ops",
            (
                ("{{handler}}", counter("chassis_handler_failures_total", "handler")),
                ("events: {{type}}", counter("chassis_failed_events_total", "type")),
            ),
        ),
    ),
    "Inbox": (
        Panel(
            "Claims",
            "Answers of the inbox. Busy: another replica has it. Mismatch: the body differs.",
            "ops",
            (("{{outcome}}", counter("chassis_inbox_claims_total", "outcome")),),
            "stack",
        ),
        Panel(
            "Leases lost",
            "Claims that ended while the handler still ran. The runbook LeasesLost helps.",
            "ops",
            (("{{instance}}", counter("chassis_inbox_leases_lost_total", "instance")),),
        ),
        Panel(
            "Store reachable, consumer paused",
            "1 while the inbox store answers; 1 for each reason of a pause.",
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
            "New dead letters, by reason. The reference of messages explains each reason.",
            "short",
            (
                (
                    "{{reason}}",
                    increase("chassis_dead_letters_total", "reason"),
                ),
            ),
            "stack",
            12,
        ),
        Panel(
            "Waiting",
            "Dead letters at the broker, and how many it keeps; beyond that, events stay queued.",
            "short",
            (
                ("waiting", gauge("max", "chassis_dead_letters_waiting")),
                ("bound", gauge("max", "chassis_dead_letters_bound")),
            ),
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
            "Publishes of events, by outcome. A failed one is repeated until it is confirmed.",
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
            "Time until all events of one handling are confirmed: 99th percentile and median.",
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
            "Connections that were lost and restored.",
            "ops",
            (("{{instance}}", counter("chassis_bus_reconnects_total", "instance")),),
        ),
        Panel(
            "Acknowledgements in a batch",
            "Mean deliveries per acknowledgement. It grows under load; on NATS it stays 1.",
            "short",
            (
                (
                    "mean",
                    counter(f"{BATCHES}_sum") + " / " + counter(f"{BATCHES}_count"),
                ),
            ),
        ),
    ),
    "Outbox": (
        Panel(
            "Waiting to be published",
            "Events in the outbox. Only a service with its inbox in PostgreSQL has one.",
            "short",
            (("waiting", gauge("max", "chassis_outbox_messages")),),
        ),
        Panel(
            "Age of the oldest",
            "Time that the oldest event in the outbox has waited for a relay.",
            "s",
            (("oldest", gauge("max", "chassis_outbox_age_seconds")),),
        ),
        Panel(
            "Replicas that publish it",
            "Workers or relays. At 0, events stay in the outbox: the runbook RelayMissing helps.",
            "short",
            (("relaying", gauge("sum", "chassis_outbox_relaying")),),
        ),
    ),
    "Processes": PROCESSES,
    "Leaders": LEADERS,
    "HTTP": WEB,
    "Cached network calls": (
        Panel(
            "Calls, by what answered them",
            "From memory, by another caller's call, or upstream. Empty without `chassis.calls`.",
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
            "Seconds since a replica began to drain, 0 before, and its deadline.",
            "s",
            (
                ("{{instance}}", gauge("max", "chassis_drain_seconds", "instance")),
                ("deadline", gauge("min", "chassis_drain_deadline_seconds")),
            ),
        ),
        Panel(
            "Abandoned",
            "Handlings cancelled at a drain's deadline. The last scrape may miss some.",
            "short",
            (
                (
                    "{{instance}}",
                    increase("chassis_drain_abandoned_messages_total", "instance"),
                ),
            ),
        ),
        Panel(
            "Running since",
            "Age of each process. In a crash loop it keeps falling to zero.",
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
            "Replicas, by version of the service and of the chassis.",
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
