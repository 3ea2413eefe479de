"""PostgreSQL, for `dev`, with a database for each service."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from chassis.tools.dev.server import Container, Launch, Place, Server, ServerMissingError

_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
    "usr/local/pgsql/bin",
)


def _program(place: Place, found: Mapping[str, Path]) -> Launch:
    account = _account()
    data = place.folder / "data"
    if not data.exists():
        _initialise(place, found["initdb"], account)
    program = found["postgres"]
    command = [str(program), "-D", str(data), "-p", str(place.port)]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    command += ["-c", "max_connections=200"]  # several services have pools
    # INT is its "fast" shutdown, which does not wait for clients.
    return Launch(command, origin=str(program), user=account, stop="INT")


def _account() -> str | None:
    """The account to run it as: PostgreSQL refuses root. None: as we are."""
    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    found = next((name for name in ("postgres", "nobody") if name in accounts), None)
    if found is None:
        raise ServerMissingError(
            "PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody"
        )
    return found


def _initialise(place: Place, initdb: Path, account: str | None) -> None:
    """Make `data` in one step: an interrupted attempt leaves nothing that looks like a database."""
    new = place.folder / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    password = new / "password"
    password.touch(mode=0o600)
    password.write_text(place.password)
    if account is not None:
        for path in (new, password):
            shutil.chown(path, account)
    command = [str(initdb), "-D", str(new / "data"), "-U", "dockyard", "--no-sync"]
    command += ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C"]
    made = subprocess.run(
        command,
        cwd="/",
        user=account,
        extra_groups=None if account is None else [],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        said = made.stderr.strip() or made.stdout.strip()
        raise ServerMissingError(f"initdb failed in {place.folder}: {said}")
    (new / "data").rename(place.folder / "data")
    shutil.rmtree(new)


async def _answers(place: Place) -> bool:
    import psycopg

    try:
        await (await psycopg.AsyncConnection.connect(_dsn(place), connect_timeout=5)).close()
    except psycopg.OperationalError:  # also while it starts up or recovers
        return False
    return True


async def _url(place: Place, service: str) -> str:
    """Of the service's own database, which is created if need be."""
    import psycopg
    from psycopg import errors, sql

    database = service.replace("-", "_")
    async with await psycopg.AsyncConnection.connect(_dsn(place), autocommit=True) as connection:
        found = await connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", (database,)
        )
        if await found.fetchone() is None:
            create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database))
            # A second replica of this service may make it just now.
            with suppress(errors.DuplicateDatabase, errors.UniqueViolation):
                await connection.execute(create)
    return _dsn(place, database)


def _dsn(place: Place, database: str = "postgres") -> str:
    return f"postgresql://dockyard:{place.password}@127.0.0.1:{place.port}/{database}"


POSTGRES = Server(
    kind="postgres",
    name="PostgreSQL",
    programs={"initdb": _FOLDERS, "postgres": _FOLDERS},
    package="postgresql",
    container=Container(
        5432,
        "/var/lib/postgresql",
        env={"POSTGRES_USER": "dockyard", "POSTGRES_PASSWORD": "{password}"},
    ),
    program=_program,
    answers=_answers,
    url=_url,
    without="without PostgreSQL there are no transactions and no outbox",
)
