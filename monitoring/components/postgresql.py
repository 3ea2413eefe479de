"""What the dashboard of PostgreSQL asks."""

from monitoring.components.queries import gauges, rate
from monitoring.panel import Panel

ROWS: dict[str, tuple[Panel, ...]] = {
    "Nodes": (
        Panel(
            "Nodes up",
            "Nodes that answer.",
            "short",
            (("up", 'sum(pg_up{job="postgresql"})'),),
            "number",
        ),
        Panel(
            "Oldest transaction",
            "Age of the oldest transaction that is open. It keeps dead rows from being removed.",
            "s",
            (("oldest", 'max(pg_platform_transactions_oldest_seconds{job="postgresql"})'),),
            "number",
        ),
        Panel(
            "Events in outboxes",
            "Rows of all tables chassis_outbox, by the server's estimate.",
            "short",
            (
                (
                    "waiting",
                    'sum(pg_platform_tables_live_rows{job="postgresql", relname="chassis_outbox"})',
                ),
            ),
            "number",
        ),
        Panel(
            "Connections",
            "Connections of clients, as a share of those they may have.",
            "percentunit",
            (
                (
                    "{{instance}}",
                    (
                        'pg_platform_connections_used{job="postgresql"}'
                        ' / pg_platform_connections_max{job="postgresql"}'
                    ),
                ),
            ),
        ),
        Panel(
            "Transactions",
            "Transactions a second, by database.",
            "ops",
            (
                ("{{datname}}", rate("pg_stat_database_xact_commit", "postgresql", "datname")),
                (
                    "{{datname}}, rolled back",
                    rate("pg_stat_database_xact_rollback", "postgresql", "datname"),
                ),
            ),
        ),
        Panel(
            "Replication lag",
            "Seconds by which a standby is behind; 0 on a primary.",
            "s",
            (("{{instance}}", 'pg_platform_replication_lag_seconds{job="postgresql"}'),),
        ),
    ),
    "Tables": (
        Panel(
            "Rows of inboxes and outboxes",
            "Rows that are alive, by database and table.",
            "short",
            (
                (
                    "{{datname}} {{relname}}",
                    (
                        "topk(10, pg_platform_tables_live_rows"
                        '{job="postgresql", relname=~"chassis_.+"})'
                    ),
                ),
            ),
        ),
        Panel(
            "Dead rows",
            "Rows that vacuum has yet to remove.",
            "short",
            (
                (
                    "{{datname}} {{relname}}",
                    'topk(10, pg_platform_tables_dead_rows{job="postgresql"})',
                ),
            ),
        ),
        Panel(
            "Size of databases",
            "Bytes by database.",
            "bytes",
            (("{{datname}}", gauges("max", "pg_database_size_bytes", "postgresql", "datname")),),
        ),
    ),
}
