"""PostgreSQL: a database for each service, with a role that works and a role that migrates."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import time
from typing import TYPE_CHECKING

from dockyard.servers import needs, passwords
from dockyard.servers.address import Address, Unreachable
from dockyard.servers.clients import client_of
from dockyard.servers.findings import Report

if TYPE_CHECKING:
    from psycopg import Connection

TIMEOUT_SECONDS = 10


@contextmanager
def _connected(address: Address, database: str | None = None) -> "Iterator[Connection]":
    """A connection, to another `database` of the server if one is named; errors: Unreachable."""
    psycopg = client_of("psycopg")
    more = {} if database is None else {"dbname": database}
    try:
        with psycopg.connect(
            address.url, autocommit=True, connect_timeout=TIMEOUT_SECONDS, **more
        ) as connection:
            yield connection
    except psycopg.Error as error:
        raise Unreachable(address, str(error)) from None


def statements(
    service: str, known: Mapping[str, str], quotas: needs.Quotas
) -> tuple[list[str], list[str]]:
    """SQL for a maintenance database, and SQL for the service's own. Holds verifiers, no password.

    Names are of letters, digits and `_`, so that quotes are enough.
    """
    name, migrate = needs.postgresql_names(service)
    outside = []
    for role, limit in ((name, quotas.connections), (migrate, 5)):
        outside += [
            (
                f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN "
                f'CREATE ROLE "{role}"; END IF; END $$'
            ),
            (
                f'ALTER ROLE "{role}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE '
                f"CONNECTION LIMIT {limit} PASSWORD '{passwords.of_postgresql(known[role])}'"
            ),
        ]
    inside = [
        f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC',
        f'GRANT CONNECT ON DATABASE "{name}" TO "{name}", "{migrate}"',
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f'GRANT USAGE, CREATE ON SCHEMA public TO "{migrate}"',
        f'GRANT USAGE ON SCHEMA public TO "{name}"',
    ]
    for kind, rights in (
        ("TABLES", "SELECT, INSERT, UPDATE, DELETE"),
        ("SEQUENCES", "USAGE, SELECT"),
    ):
        inside += [
            f'GRANT {rights} ON ALL {kind} IN SCHEMA public TO "{name}"',
            (
                f'ALTER DEFAULT PRIVILEGES FOR ROLE "{migrate}" IN SCHEMA public '
                f'GRANT {rights} ON {kind} TO "{name}"'
            ),
        ]
    return outside, inside


def bootstrap(
    address: Address, services: Sequence[str], known: Mapping[str, str], quotas: needs.Quotas
) -> list[str]:
    """Make roles and databases; the tables come with the service's command `migrate`."""
    made = []
    for service in services:
        name, migrate = needs.postgresql_names(service)
        outside, inside = statements(service, known, quotas)
        with _connected(address) as connection:
            for statement in outside:
                connection.execute(statement.encode())
            there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if there.fetchone() is None:
                connection.execute(f'CREATE DATABASE "{name}"'.encode())
        with _connected(address, name) as connection:
            # Roles of an older bootstrap may own tables; default rights are given as that role.
            connection.execute(f'GRANT "{migrate}" TO CURRENT_USER'.encode())
            for statement in inside:
                connection.execute(statement.encode())
        made.append(f"database {name} with the roles {name} and {migrate}")
    return made


def check(address: Address, services: Sequence[str], nodes: int | None) -> Report:
    report = Report("postgresql", address.shown)
    with _connected(address) as connection:
        version, clock, recovering, read_only, most = _one(
            connection,
            "SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp()), "
            "pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', "
            "current_setting('max_connections')::integer",
        )
        report.version(str(version), needs.POSTGRESQL_OLDEST, "PostgreSQL")
        report.clock(float(str(clock)) - time())
        if recovering or read_only:
            mend = "give the primary's URL, or add target_session_attrs=read-write to several hosts"
            report.fault("server", "it takes no writes", mend)
        if nodes is not None:
            (standbys,) = _one(connection, "SELECT count(*) FROM pg_stat_replication")
            report.nodes(1 + int(str(standbys)), nodes, "replication")
        report.seen.append(f"max_connections {most}")
    for service in services:
        _rights(report, address, service)
    return report


def _one(connection: "Connection", query: str, *values: object) -> tuple[object, ...]:
    row: tuple[object, ...] | None = connection.execute(query.encode(), values).fetchone()
    return () if row is None else row


def _rights(report: Report, address: Address, service: str) -> None:
    name, migrate = needs.postgresql_names(service)
    report.seen.append(f"rights of {service}")
    with _connected(address) as connection:
        there = connection.execute("SELECT datname FROM pg_database WHERE datname = %s", (name,))
        if there.fetchone() is None:
            mend = "make it with `dockyard platform bootstrap`"
            report.fault(f"database {name}", "it does not exist", mend)
            return
        roles = connection.execute(
            "SELECT rolname, rolsuper FROM pg_roles WHERE rolname IN (%s, %s)", (name, migrate)
        ).fetchall()
    known = dict(roles)
    if name not in known:
        mend = "make it with `dockyard platform bootstrap`"
        report.fault(f"role {name}", "it does not exist", mend)
        return
    if known[name]:
        what = "it is a superuser and has more rights than it needs"
        report.warn(f"role {name}", what, f'`ALTER ROLE "{name}" NOSUPERUSER`')
    with _connected(address, name) as connection:
        _within(report, connection, name)


def _within(report: Report, connection: "Connection", name: str) -> None:
    """The rights of the role in its own database, where the chassis' tables are."""
    where = f"role {name}"
    if not _one(connection, "SELECT has_database_privilege(%s, %s, 'CONNECT')", name, name)[0]:
        mend = f'`GRANT CONNECT ON DATABASE "{name}" TO "{name}"`'
        report.fault(where, f"it may not connect to the database {name}", mend)
    (usage,) = _one(connection, "SELECT has_schema_privilege(%s, 'public', 'USAGE')", name)
    if not usage:
        mend = f'`GRANT USAGE ON SCHEMA public TO "{name}"`'
        report.fault(where, "it may not use the schema public", mend)
    for table, rights in needs.POSTGRESQL_TABLES.items():
        (there,) = _one(connection, "SELECT to_regclass(%s) IS NOT NULL", f"public.{table}")
        if not there:
            mend = "run the service's command `migrate` with the URL of the role that migrates"
            report.fault(f"table {table}", f"it does not exist in the database {name}", mend)
            continue
        asked = "SELECT has_table_privilege(%s, %s, %s)"
        missing = [r for r in rights if not _one(connection, asked, name, f"public.{table}", r)[0]]
        if missing:
            mend = f'`GRANT {", ".join(missing)} ON {table} TO "{name}"`'
            report.fault(where, f"it may not {', '.join(missing)} in the table {table}", mend)
    for sequence in needs.POSTGRESQL_SEQUENCES:
        (there,) = _one(connection, "SELECT to_regclass(%s) IS NOT NULL", f"public.{sequence}")
        asked = "SELECT has_sequence_privilege(%s, %s, 'USAGE')"
        if there and not _one(connection, asked, name, f"public.{sequence}")[0]:
            mend = f'`GRANT USAGE ON SEQUENCE {sequence} TO "{name}"`'
            report.fault(where, f"it may not use the sequence {sequence}", mend)
