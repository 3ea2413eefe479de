"""The chassis' tables in PostgreSQL, made and changed in numbered steps.

A step is applied once and never edited afterwards; what a released chassis needs is never taken away by a later step,
because replicas of both are at work while a release rolls out. Knows nothing of what the tables are used for.
"""

from typing import LiteralString

from chassis.inbox import InboxUnavailable
from chassis.inbox.postgres.database import Connection, Database

STEPS: tuple[tuple[str, tuple[LiteralString, ...]], ...] = (
    (
        # "If not exists": the first chassis made the very same without numbering it, and its claims must stay.
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
            # Rows come and go at the rate of events: vacuumed by their number, not by their share of the table.
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
)

# Creating "if not exists" is not safe against itself; any number does that no one else locks in this database.
_LOCK: LiteralString = "SELECT pg_advisory_xact_lock(7140776813503812)"
_PATIENCE: LiteralString = "SET LOCAL lock_timeout = '1min'"
_STEPS_TABLE: LiteralString = """
    CREATE TABLE IF NOT EXISTS chassis_schema (
        version integer PRIMARY KEY,
        applied timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""


class SchemaOutdated(InboxUnavailable):
    """The tables are older than this chassis; the message names the command that mends it."""


async def migrate(database: Database) -> list[str]:
    """Apply the steps that are missing, all or none; says what was done, nothing when nothing was missing.

    Safe to be called by any number at once. Raises InboxUnavailable, also when the role may not create tables.
    """
    async with database.transaction() as connection:
        if await _version(connection) >= len(STEPS):
            return []
        await connection.execute(_PATIENCE)
        await connection.execute(_LOCK)
        await connection.execute(_STEPS_TABLE)
        done = await _version(connection)
        said = []
        for number, (what, statements) in enumerate(STEPS[done:], start=done + 1):
            for statement in statements:
                await connection.execute(statement)
            await connection.execute("INSERT INTO chassis_schema (version) VALUES (%s)", (number,))
            said.append(f"{number}: {what}")
        return said


async def require(database: Database) -> None:
    """Return when the tables are those of this chassis, or of a later one. Raises SchemaOutdated, InboxUnavailable."""
    async with database.statement() as connection:
        version = await _version(connection)
    if version < len(STEPS):
        raise SchemaOutdated(
            f"the tables of the chassis in PostgreSQL are at step {version}, this chassis needs step {len(STEPS)}: "
            "run the service's command `migrate` (with CHASSIS_MIGRATE=true, `run` does it by itself)"
        )


async def _version(connection: Connection) -> int:
    """The last step that was applied, 0 for none."""
    there = await (await connection.execute("SELECT to_regclass('chassis_schema')")).fetchone()
    if there == (None,):
        return 0
    row = await (
        await connection.execute("SELECT coalesce(max(version), 0) FROM chassis_schema")
    ).fetchone()
    return 0 if row is None else int(row[0])
