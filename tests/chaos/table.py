"""Counts the rows of `ctx.transaction()`, in the handlers' table beside a PostgreSQL inbox."""

from collections import Counter

import psycopg


def create(url: str) -> None:
    """An empty table."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE effects (event_id text)")


def written(url: str) -> Counter[str]:
    """How often each event has been written."""
    with psycopg.connect(url) as connection:
        counts = connection.execute("SELECT event_id, count(*) FROM effects GROUP BY event_id")
        return Counter({str(event): int(count) for event, count in counts})
