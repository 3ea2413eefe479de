"""What the dashboard of NATS asks."""

from monitoring.components.queries import rate
from monitoring.panel import Panel

ROWS: dict[str, tuple[Panel, ...]] = {
    "Servers": (
        Panel(
            "Servers up",
            "Servers that answer the exporter. Streams need most of theirs.",
            "short",
            (("up", 'sum(nats_up{job="nats"})'),),
            "number",
        ),
        Panel(
            "Streams without a leader",
            "Streams that take and give nothing until most of their replicas are back.",
            "short",
            (("streams", 'count(nats_stream_has_leader{job="nats"} == 0) or vector(0)'),),
            "number",
        ),
        Panel(
            "Messages waiting",
            "Messages that consumers have not been given yet.",
            "short",
            (("waiting", 'sum(nats_consumer_pending_messages{job="nats"})'),),
            "number",
        ),
        Panel(
            "Storage",
            "Disk space of streams, as a share of what the server may take.",
            "percentunit",
            (
                (
                    "{{server}}",
                    (
                        'nats_server_jetstream_storage_bytes{job="nats"}'
                        ' / nats_server_jetstream_storage_max_bytes{job="nats"}'
                    ),
                ),
            ),
        ),
        Panel(
            "Memory",
            "Memory of the servers.",
            "bytes",
            (("{{server}}", 'nats_server_memory_bytes{job="nats"}'),),
        ),
        Panel(
            "CPU",
            "Cores in use.",
            "short",
            (("{{server}}", 'nats_server_cpu_cores{job="nats"}'),),
        ),
        Panel(
            "Messages in and out",
            "Messages received from clients and sent to them.",
            "ops",
            (
                ("in", rate("nats_server_received_messages_total", "nats", "job")),
                ("out", rate("nats_server_sent_messages_total", "nats", "job")),
            ),
        ),
        Panel(
            "Connections",
            "Clients by server. Slow ones were cut off.",
            "short",
            (
                ("{{server}}", 'nats_server_connections{job="nats"}'),
                ("slow, a second", rate("nats_server_slow_consumers_total", "nats", "job")),
            ),
        ),
        Panel(
            "API",
            "Requests to JetStream, and those it refused.",
            "ops",
            (
                ("requests", rate("nats_server_jetstream_api_requests_total", "nats", "job")),
                ("refused", rate("nats_server_jetstream_api_errors_total", "nats", "job")),
            ),
        ),
    ),
    "Streams": (
        Panel(
            "Size",
            "Bytes of the ten largest streams.",
            "bytes",
            (("{{stream}}", 'topk(10, nats_stream_bytes{job="nats"})'),),
        ),
        Panel(
            "Replicas",
            "Replicas that are up to date, and as many as are wanted.",
            "short",
            (
                ("{{stream}}", 'nats_stream_replicas_current{job="nats"}'),
                ("{{stream}}, wanted", 'nats_stream_replicas_wanted{job="nats"}'),
            ),
        ),
        Panel(
            "Oldest message",
            "Age of the oldest message that a stream keeps.",
            "s",
            (("{{stream}}", 'time() - nats_stream_oldest_timestamp_seconds{job="nats"}'),),
        ),
        Panel(
            "Consumers behind",
            "Messages that the ten consumers furthest behind have not been given.",
            "short",
            (("{{consumer}}", 'topk(10, nats_consumer_pending_messages{job="nats"})'),),
        ),
        Panel(
            "In hand",
            "Messages delivered and not yet acknowledged.",
            "short",
            (("{{consumer}}", 'topk(10, nats_consumer_unacknowledged_messages{job="nats"})'),),
        ),
        Panel(
            "Delivered again",
            "Messages in hand that were delivered more than once.",
            "short",
            (("{{consumer}}", 'topk(10, nats_consumer_redelivered_messages{job="nats"})'),),
        ),
    ),
}
