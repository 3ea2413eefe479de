"""PostgreSQL: roles with least rights let a service work, and a right that is missing is named."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from chassis.inbox.postgres.inbox import PostgresInbox
from tests.brokers.binaries import find
from tests.brokers.nats import nats
from tests.brokers.postgres import postgres_server
from tests.generator.servers.command import bootstrap, check, faults, passwords_in
from tests.generator.servers.living import live, settings_of
from tests.template import lab


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an administrator. Every other login needs its password."""
    with postgres_server(tmp_path_factory.mktemp("postgres")) as (url, _):
        with psycopg.connect(url) as admin:
            (hba,) = admin.execute("SHOW hba_file").fetchone() or ("",)
        Path(hba).write_text("host all dockyard all trust\nhost all all all scram-sha-256\n")
        with psycopg.connect(url) as admin:
            admin.execute("SELECT pg_reload_conf()")
        yield url


def login(url: str, role: str, password: str) -> str:
    host = url.rpartition("@")[2].partition("/")[0]
    return f"postgresql://{role}:{password}@{host}/billing_svc"


async def test_a_service_runs_with_the_rights_of_its_roles(server: str, tmp_path: Path) -> None:
    bootstrap(server, passwords=tmp_path / "passwords")
    bootstrap(server, passwords=tmp_path / "passwords")  # again: nothing is lost
    known = passwords_in(tmp_path / "passwords")
    migrating = PostgresInbox(
        login(server, "billing_svc_migrate", known["billing_svc_migrate"]), 60, 60
    )
    await migrating.migrate()
    await migrating.close()
    with nats(tmp_path / "nats") as bus:
        inbox_url = login(server, "billing_svc", known["billing_svc"])
        await live(settings_of(bus.url, inbox_url, MIGRATE="false"))
    assert check(server).findings == []


@pytest.mark.parametrize(
    ("spoil", "mend", "where", "what"),
    [
        (
            "REVOKE DELETE ON chassis_outbox FROM billing_svc",
            "GRANT DELETE ON chassis_outbox TO billing_svc",
            "role billing_svc",
            "it may not DELETE in the table chassis_outbox",
        ),
        (
            "REVOKE USAGE ON SEQUENCE chassis_inbox_fence FROM billing_svc",
            "GRANT USAGE ON SEQUENCE chassis_inbox_fence TO billing_svc",
            "role billing_svc",
            "it may not use the sequence chassis_inbox_fence",
        ),
        (
            "REVOKE USAGE ON SCHEMA public FROM billing_svc",
            "GRANT USAGE ON SCHEMA public TO billing_svc",
            "role billing_svc",
            "it may not use the schema public",
        ),
        (
            "REVOKE CONNECT ON DATABASE billing_svc FROM billing_svc",
            "GRANT CONNECT ON DATABASE billing_svc TO billing_svc",
            "role billing_svc",
            "it may not connect to the database billing_svc",
        ),
        (
            "ALTER DATABASE postgres SET default_transaction_read_only = on",
            "ALTER DATABASE postgres SET default_transaction_read_only = off",
            "server",
            "it takes no writes",
        ),
    ],
)
async def test_a_right_that_is_taken_away_is_named(
    server: str, tmp_path: Path, spoil: str, mend: str, where: str, what: str
) -> None:
    await migrated(server, tmp_path)
    database = server if where == "server" else server.replace("/postgres", "/billing_svc")
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(spoil.encode())
        try:
            (fault,) = faults(check(server))
            assert (fault["where"], fault["what"]) == (where, what)
        finally:
            admin.execute(mend.encode())
    assert faults(check(server)) == []


async def migrated(server: str, tmp_path: Path) -> None:
    bootstrap(server, passwords=tmp_path / "passwords")
    password = passwords_in(tmp_path / "passwords")["billing_svc_migrate"]
    inbox = PostgresInbox(login(server, "billing_svc_migrate", password), 60, 60)
    await inbox.migrate()
    await inbox.close()


def test_a_service_without_a_database_is_named(server: str) -> None:
    (fault,) = faults(check(server, service="other-svc"))
    assert (fault["where"], fault["what"]) == ("database other_svc", "it does not exist")


def test_the_sql_does_what_the_command_does(server: str, tmp_path: Path) -> None:
    bootstrap(passwords=tmp_path / "passwords", service="sql-svc", more=("--into", str(tmp_path)))
    for _ in range(2):  # again: nothing is lost
        command = [find("psql"), "--dbname", server, "--set", "ON_ERROR_STOP=1", "--quiet"]
        lab.run([*command, "--file", tmp_path / "postgresql.sql"], tmp_path)
    tables = {f"table chassis_{name}" for name in ("schema", "inbox", "outbox", "process")}
    assert {fault["where"] for fault in faults(check(server, service="sql-svc"))} == tables
