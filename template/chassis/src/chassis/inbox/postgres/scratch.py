"""A PostgreSQL inbox for a test, in a schema that is dropped afterwards: not for production."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

try:
    import psycopg
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "a harness with a database needs psycopg: add dockyard-chassis[postgres] to the "
        "dependencies in pyproject.toml"
    ) from missing
from psycopg import sql
from psycopg.conninfo import make_conninfo

from chassis.inbox.postgres.inbox import PostgresInbox
from chassis.inbox.postgres.schema import STEPS_TABLE


@asynccontextmanager
async def scratch_inbox(
    url: str, lease_seconds: float, retention_seconds: float
) -> AsyncIterator[PostgresInbox]:
    """An open inbox in the database at `url`, whose role may create schemas.

    Other tables are found where they would be without it. Raises psycopg.Error if the database
    cannot be used.
    """
    schema = f"chassis_test_{uuid4().hex[:12]}"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
        await admin.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        try:
            found = await (await admin.execute("SHOW search_path")).fetchone()
            # The service's own tables may be in the database too, and would be taken for these.
            await admin.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
            await admin.execute(STEPS_TABLE)
            path = f"{schema}, {'public' if found is None else found[0]}".replace(" ", "")
            inbox = PostgresInbox(
                make_conninfo(url, options=f"-c search_path={path}"),
                lease_seconds,
                retention_seconds,
            )
            try:
                await inbox.open()
                yield inbox
            finally:
                await inbox.close()
        finally:
            await admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
