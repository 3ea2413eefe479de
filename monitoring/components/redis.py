"""What the dashboard of Redis asks."""

from monitoring.components.queries import rate
from monitoring.panel import Panel

ROWS: dict[str, tuple[Panel, ...]] = {
    "Nodes": (
        Panel(
            "Nodes up",
            "Nodes that answer.",
            "short",
            (("up", 'sum(redis_up{job="redis"})'),),
            "number",
        ),
        Panel(
            "Evicted keys",
            "Keys evicted within the time range. Each may be an event that is handled twice.",
            "short",
            (("evicted", 'sum(increase(redis_evicted_keys_total{job="redis"}[$__range]))'),),
            "number",
        ),
        Panel(
            "Keys",
            "Keys of all databases.",
            "short",
            (("keys", 'sum(redis_db_keys{job="redis"})'),),
            "number",
        ),
        Panel(
            "Memory",
            "Memory in use, and the most that it may be (0: no bound).",
            "bytes",
            (
                ("{{instance}}", 'redis_memory_used_bytes{job="redis"}'),
                ("bound of {{instance}}", 'redis_memory_max_bytes{job="redis"}'),
            ),
        ),
        Panel(
            "Commands",
            "Commands a second.",
            "ops",
            (("{{instance}}", rate("redis_commands_processed_total", "redis", "instance")),),
        ),
        Panel(
            "Time of commands",
            "Mean time of a command.",
            "s",
            (
                (
                    "{{cmd}}",
                    (
                        f"topk(5, {rate('redis_commands_duration_seconds_total', 'redis', 'cmd')}"
                        f" / {rate('redis_commands_total', 'redis', 'cmd')})"
                    ),
                ),
            ),
        ),
        Panel(
            "Clients",
            "Connected clients, and refused ones per second.",
            "short",
            (
                ("{{instance}}", 'redis_connected_clients{job="redis"}'),
                ("turned away", rate("redis_rejected_connections_total", "redis", "job")),
            ),
        ),
        Panel(
            "Persistence",
            "1 while the last snapshot, append and rewrite went well.",
            "short",
            (
                ("snapshot {{instance}}", 'redis_rdb_last_bgsave_status{job="redis"}'),
                ("append {{instance}}", 'redis_aof_last_write_status{job="redis"}'),
                ("rewrite {{instance}}", 'redis_aof_last_bgrewrite_status{job="redis"}'),
            ),
        ),
        Panel(
            "Replicas",
            "Replicas that are connected to a node.",
            "short",
            (("{{instance}}", 'redis_connected_slaves{job="redis"}'),),
        ),
    ),
}
