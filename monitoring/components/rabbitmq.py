"""What the dashboard of RabbitMQ asks."""

from monitoring.components.queries import gauges, rate
from monitoring.panel import Panel

ROWS: dict[str, tuple[Panel, ...]] = {
    "Nodes": (
        Panel(
            "Nodes up",
            "Nodes that answer Prometheus. Quorum queues need most of them.",
            "short",
            (("up", 'sum(up{job="rabbitmq"})'),),
            "number",
        ),
        Panel(
            "Alarms",
            "Alarms in effect. Any of memory or disk blocks all publishers.",
            "short",
            (
                ("memory", 'sum(rabbitmq_alarms_memory_used_watermark{job="rabbitmq"})'),
                ("disk", 'sum(rabbitmq_alarms_free_disk_space_watermark{job="rabbitmq"})'),
            ),
            "number",
        ),
        Panel(
            "Messages",
            "Messages in all queues.",
            "short",
            (("messages", 'sum(rabbitmq_queue_messages{job="rabbitmq"})'),),
            "number",
        ),
        Panel(
            "Memory",
            "Memory in use, as a share of the watermark.",
            "percentunit",
            (
                (
                    "{{instance}}",
                    (
                        'rabbitmq_process_resident_memory_bytes{job="rabbitmq"}'
                        ' / rabbitmq_resident_memory_limit_bytes{job="rabbitmq"}'
                    ),
                ),
            ),
        ),
        Panel(
            "Free disk space",
            "Bytes that are free. At the limit all publishers are blocked.",
            "bytes",
            (
                ("{{instance}}", 'rabbitmq_disk_space_available_bytes{job="rabbitmq"}'),
                (
                    "limit of {{instance}}",
                    'rabbitmq_disk_space_available_limit_bytes{job="rabbitmq"}',
                ),
            ),
        ),
        Panel(
            "File descriptors",
            "Share of the file descriptors in use.",
            "percentunit",
            (
                (
                    "{{instance}}",
                    (
                        'rabbitmq_process_open_fds{job="rabbitmq"}'
                        ' / rabbitmq_process_max_fds{job="rabbitmq"}'
                    ),
                ),
            ),
        ),
    ),
    "Traffic": (
        Panel(
            "Messages in and out",
            "Messages taken from publishers, given to consumers, and given again.",
            "ops",
            (
                ("in", rate("rabbitmq_global_messages_received_total", "rabbitmq", "job")),
                ("out", rate("rabbitmq_global_messages_delivered_total", "rabbitmq", "job")),
                ("again", rate("rabbitmq_global_messages_redelivered_total", "rabbitmq", "job")),
            ),
        ),
        Panel(
            "Unroutable",
            "Messages that no queue takes. Returned ones belong to a queue that is gone.",
            "ops",
            (
                (
                    "dropped",
                    rate("rabbitmq_global_messages_unroutable_dropped_total", "rabbitmq", "job"),
                ),
                (
                    "returned",
                    rate("rabbitmq_global_messages_unroutable_returned_total", "rabbitmq", "job"),
                ),
            ),
        ),
        Panel(
            "Connections",
            "Connections that are open, and those opened each second.",
            "short",
            (
                ("open", gauges("sum", "rabbitmq_connections", "rabbitmq", "job")),
                ("new a second", rate("rabbitmq_connections_opened_total", "rabbitmq", "job")),
            ),
        ),
    ),
    "Queues": (
        Panel(
            "Longest queues",
            "Messages in the ten longest queues of services.",
            "short",
            (
                (
                    "{{queue}}",
                    (
                        "topk(10, sum by (vhost, queue) (rabbitmq_detailed_queue_messages"
                        '{job="rabbitmq-detailed", queue!~".*[.](dead|later[.][0-9]+ms)"}))'
                    ),
                ),
            ),
        ),
        Panel(
            "Dead letters",
            "Dead letters that are kept, by service. The bound is 100,000.",
            "short",
            (
                (
                    "{{queue}}",
                    (
                        "topk(10, sum by (vhost, queue) (rabbitmq_detailed_queue_messages"
                        '{job="rabbitmq-detailed", queue=~".*[.]dead"}))'
                    ),
                ),
            ),
        ),
        Panel(
            "Consumers",
            "Consumers of each queue of a service. None means that nobody reads it.",
            "short",
            (
                (
                    "{{queue}}",
                    (
                        "bottomk(10, sum by (vhost, queue) (rabbitmq_detailed_queue_consumers"
                        '{job="rabbitmq-detailed", queue!~".*[.](dead|later[.][0-9]+ms)"}))'
                    ),
                ),
            ),
        ),
    ),
}
