"""The chassis' tables in PostgreSQL, made and changed in numbered steps.

A step is applied once and never edited afterwards. A later step never removes anything that a
released chassis needs, because replicas of both work side by side while a release rolls out. Knows
nothing of the use of the tables.
"""

from typing import LiteralString

from chassis.inbox import InboxUnavailable
from chassis.inbox.postgres.database import Connection, Database

STEPS: tuple[tuple[str, tuple[LiteralString, ...]], ...] = (
    (
        # "If not exists": the first chassis made the same table without a number; its claims stay.
        "the inbox",
        (
            "CREATE SEQUENCE IF NOT EXISTS chassis_inbox_fence",
            """
            CREATE TABLE IF NOT EXISTS chassis_inbox (
                key text PRIMARY KEY,
                digest text NOT NULL,
                fence bigint NOT NULL,
                done boolean NOT NULL,
                until timestamptz NOT NULL
            )
            """,
            "CREATE INDEX IF NOT EXISTS chassis_inbox_until ON chassis_inbox (until)",
        ),
    ),
    (
        "the outbox",
        (
            # Rows come and go at the rate of events, so vacuum by their number, not by their share.
            """
            CREATE TABLE chassis_outbox (
                source text NOT NULL,
                position bigint GENERATED ALWAYS AS IDENTITY,
                headers jsonb NOT NULL,
                body bytea NOT NULL,
                stored timestamptz NOT NULL DEFAULT clock_timestamp(),
                due timestamptz NOT NULL DEFAULT clock_timestamp(),
                failures integer NOT NULL DEFAULT 0,
                error text,
                PRIMARY KEY (source, position)
            ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000)
            """,
        ),
    ),
    (
        "processes",
        (
            # What is asked for has a column of its own; the rest is in the record.
            """
            CREATE TABLE chassis_process (
                service text NOT NULL,
                id text NOT NULL,
                process text NOT NULL,
                status text NOT NULL,
                revision bigint NOT NULL,
                record bytea NOT NULL,
                idle_since timestamptz NOT NULL,
                until timestamptz,
                PRIMARY KEY (service, id)
            )
            """,
            """
            CREATE INDEX chassis_process_idle
            ON chassis_process (service, process, status, idle_since)
            """,
            """
            CREATE INDEX chassis_process_until ON chassis_process (until)
            WHERE until IS NOT NULL
            """,
        ),
    ),
)

# Concurrent "create if not exists" can fail, so steps take a lock. Any number will do that nothing
# else locks in this database.
_LOCK: LiteralString = "SELECT pg_advisory_xact_lock(7140776813503812)"
_PATIENCE: LiteralString = "SET LOCAL lock_timeout = '1min'"
STEPS_TABLE: LiteralString = """
    CREATE TABLE IF NOT EXISTS chassis_schema (
        version integer PRIMARY KEY,
        applied timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""


class SchemaOutdated(InboxUnavailable):
    """The tables are older than this chassis; the message names the command to run."""


async def migrate(database: Database) -> list[str]:
    """Apply the missing steps, all or none; returns the steps applied.

    Any number of processes may call it at once. Raises InboxUnavailable, also if the role may not
    create tables.
    """
    async with database.transaction() as connection:
        if await _version(connection) >= len(STEPS):
            return []
        await connection.execute(_PATIENCE)
        await connection.execute(_LOCK)
        await connection.execute(STEPS_TABLE)
        done = await _version(connection)
        said = []
        for number, (what, statements) in enumerate(STEPS[done:], start=done + 1):
            for statement in statements:
                await connection.execute(statement)
            await connection.execute("INSERT INTO chassis_schema (version) VALUES (%s)", (number,))
            said.append(f"{number}: {what}")
        return said


async def require(database: Database) -> None:
    """Return if the tables are those of this chassis or of a later one.

    Raises SchemaOutdated, InboxUnavailable.
    """
    async with database.statement() as connection:
        version = await _version(connection)
    if version < len(STEPS):
        raise SchemaOutdated(
            f"the tables of the chassis in PostgreSQL are at step {version}, "
            f"this chassis needs step {len(STEPS)}: run the service's command `migrate` "
            "(with CHASSIS_MIGRATE=true, `run` does it by itself)"
        )


async def _version(connection: Connection) -> int:
    """The last applied step, 0 for none."""
    there = await (await connection.execute("SELECT to_regclass('chassis_schema')")).fetchone()
    if there == (None,):
        return 0
    row = await (
        await connection.execute("SELECT coalesce(max(version), 0) FROM chassis_schema")
    ).fetchone()
    return 0 if row is None else int(row[0])
