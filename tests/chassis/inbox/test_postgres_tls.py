"""TLS that client and server do not agree on is named, with what to change."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from chassis.inbox import InboxUnavailable
from chassis.inbox.postgres.inbox import PostgresInbox
from tests.brokers import certificate
from tests.brokers.postgres import postgres_server
from tests.waiting import PATIENCE, happens


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres_server(tmp_path_factory.mktemp("plain")) as (url, _):
        yield url


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that demands TLS."""
    folder = tmp_path_factory.mktemp("encrypted")
    made = certificate.make(folder, days=1)
    with postgres_server(folder) as (url, _):
        with psycopg.connect(url, autocommit=True) as admin:
            found = admin.execute("SHOW data_directory").fetchone()
            assert found is not None
            data = Path(found[0])
            for source, name in ((made.file, "server.crt"), (made.key, "server.key")):
                shutil.copy(source, data / name)
                shutil.chown(data / name, data.owner(), data.group())
                (data / name).chmod(0o600)
            (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
            admin.execute("ALTER SYSTEM SET ssl = on")
            admin.execute("SELECT pg_reload_conf()")
        assert happens(lambda: _connects(f"{url}?sslmode=require"), PATIENCE)
        yield url


def _connects(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


async def _why(url: str) -> str:
    inbox = PostgresInbox(url, 60, 60, timeout=2.0)
    try:
        with pytest.raises(InboxUnavailable) as caught:
            await inbox.open()
    finally:
        await inbox.close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_server_without_tls(plain: str) -> None:
    assert "speaks no TLS, but sslmode" in await _why(f"{plain}?sslmode=require")


async def test_a_server_that_demands_tls(encrypted: str) -> None:
    assert "takes no connection without TLS" in await _why(f"{encrypted}?sslmode=disable")


async def test_a_certificate_that_is_not_trusted(encrypted: str, tmp_path: Path) -> None:
    other = certificate.make(tmp_path, days=1)
    why = await _why(f"{encrypted}?sslmode=verify-ca&sslrootcert={other.file}")
    assert "has a certificate that is not trusted" in why


async def test_a_certificate_without_a_file_to_verify_it(encrypted: str, tmp_path: Path) -> None:
    why = await _why(f"{encrypted}?sslmode=verify-ca&sslrootcert={tmp_path / 'none'}")
    assert "cannot be verified without the file of its CA" in why


async def test_a_certificate_for_another_host(encrypted: str) -> None:
    with psycopg.connect(f"{encrypted}?sslmode=require") as admin:
        data = admin.execute("SHOW data_directory").fetchone()
    assert data is not None
    why = await _why(f"{encrypted}?sslmode=verify-full&sslrootcert={data[0]}/server.crt")
    assert "has a certificate for another host name" in why
