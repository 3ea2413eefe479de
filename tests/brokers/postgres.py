"""A PostgreSQL for the tests, on a free port; its data is in a folder that outlives a kill."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from tests.brokers.binaries import find
from tests.brokers.process import Server, ServerError, free_port, start


@contextmanager
def postgres_server(folder: Path, *, standby_of: str | None = None) -> Iterator[tuple[str, Server]]:
    """Its URL, and the server; `folder` gets the log. Data survives a kill, not a power failure.

    `standby_of`: the URL of a primary that it copies and follows.
    """
    port = free_port()
    url = f"postgresql://dockyard@127.0.0.1:{port}/postgres"
    user = _account()
    # Not in `folder`: the parents of pytest's folders are closed to other accounts.
    with TemporaryDirectory(prefix="postgres-") as home:
        if user is not None:
            os.chown(home, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        data = Path(home, "data")
        if standby_of is None:
            _create(data, user)
        else:
            _copy(standby_of, data, user)
        command: list[str | Path] = [
            find("postgres"),
            "-D",
            data,
            "-p",
            str(port),
            "-k",
            home,
            "-F",
        ]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]
        with start(
            command,
            ready=lambda: _answers(url),
            log=folder / "postgres.log",
            cwd=Path(home),
            user=user,
            stop_signal=signal.SIGINT,  # its "fast" shutdown, which does not wait for clients
        ) as server:
            yield url, server


def _account() -> str | None:
    """The account to run it as: PostgreSQL refuses root. None: as we are."""
    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in accounts:
            return name
    raise ServerError(
        "PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody"
    )


def _create(data: Path, user: str | None) -> None:
    command: list[str | Path] = [find("initdb"), "-D", data, "-U", "dockyard", "--auth=trust"]
    _run([*command, "--encoding=UTF8", "--locale=C", "--no-sync"], data.parent, user)


def _copy(primary: str, data: Path, user: str | None) -> None:
    """All of a primary's data, with the settings by which a standby follows it."""
    command: list[str | Path] = [find("pg_basebackup"), "-d", primary, "-D", data]
    _run([*command, "-R", "-X", "stream", "-c", "fast", "--no-sync"], data.parent, user)


def _run(command: list[str | Path], folder: Path, user: str | None) -> None:
    made = subprocess.run(
        command,
        cwd=folder,
        user=user,
        extra_groups=None if user is None else [],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise ServerError(f"{Path(command[0]).name} failed: {made.stderr.strip()}")


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:  # also while it starts up or recovers
        return False
    return True
