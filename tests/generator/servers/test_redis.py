"""Redis: a user with least rights lets a service work, and what would forget records is named."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as library

from tests.brokers.nats import nats
from tests.brokers.redis import redis_server
from tests.generator.servers.command import SERVICE, bootstrap, check, faults, passwords_in
from tests.generator.servers.living import live, settings_of

KEYS = f"inbox:*, process:{SERVICE}, process:{SERVICE}:*"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


async def test_a_service_runs_with_the_rights_of_its_user(server: str, tmp_path: Path) -> None:
    said = bootstrap(server, passwords=tmp_path / "passwords")
    assert "users last until a restart" in said
    bootstrap(server, passwords=tmp_path / "passwords")  # again: nothing is lost
    password = passwords_in(tmp_path / "passwords")[SERVICE]
    inbox = server.replace("redis://", f"redis://{SERVICE}:{password}@")
    with nats(tmp_path / "nats") as bus:
        await live(settings_of(bus.url, inbox))
    checked = check(server)
    assert checked.findings == []
    assert password not in checked.text


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ("-set", "set"),
        ("-evalsha", "evalsha"),
        ("-time", "time"),
        ("resetkeys", "get, set, pexpire, pttl, del, evalsha, eval, mget, zadd, zrem, zrangebylex"),
        ("-zadd", "zadd"),
    ],
)
def test_a_right_that_is_taken_away_is_named(
    server: str, tmp_path: Path, rule: str, named: str
) -> None:
    bootstrap(server, passwords=tmp_path / "passwords")
    with library.Redis.from_url(server) as admin:
        admin.acl_setuser(SERVICE, enabled=True)
        admin.execute_command("ACL", "SETUSER", SERVICE, rule)
    (fault,) = faults(check(server))
    assert fault["where"] == f"user {SERVICE}"
    assert fault["what"] == f"it may not use {named} on the keys {KEYS}"
    assert fault["mend"].startswith(f"`ACL SETUSER {SERVICE} ~inbox:* ~process:")


def test_a_server_that_forgets_is_named(server: str, tmp_path: Path) -> None:
    bootstrap(server, passwords=tmp_path / "passwords")
    with library.Redis.from_url(server) as admin:
        admin.config_set("maxmemory", "100mb")
        admin.config_set("maxmemory-policy", "allkeys-lru")
        admin.config_set("appendonly", "no")
        try:
            checked = check(server, more=("--nodes", "2"))
        finally:
            admin.config_set("maxmemory", "0")
            admin.config_set("maxmemory-policy", "noeviction")
            admin.config_set("appendonly", "yes")
    found = {finding["where"]: finding["level"] for finding in checked.findings}
    assert found == {"replication": "fault", "maxmemory-policy": "fault", "appendonly": "warning"}


def test_a_user_that_is_missing_or_may_do_all_is_named(server: str, tmp_path: Path) -> None:
    (fault,) = faults(check(server, service="other-svc"))
    assert (fault["where"], fault["what"]) == ("user other-svc", "it does not exist")
    bootstrap(server, passwords=tmp_path / "passwords")
    with library.Redis.from_url(server) as admin:
        admin.execute_command("ACL", "SETUSER", SERVICE, "+@all")
    checked = check(server)
    assert [finding["level"] for finding in checked.findings] == ["warning"]


async def test_the_acl_file_does_what_the_command_does(server: str, tmp_path: Path) -> None:
    bootstrap(passwords=tmp_path / "passwords", more=("--into", str(tmp_path / "files")))
    text = (tmp_path / "files/redis-users.acl").read_text("utf-8")
    assert passwords_in(tmp_path / "passwords")[SERVICE] not in text
    _, name, *rules = text.split()
    with library.Redis.from_url(server) as admin:
        admin.execute_command("ACL", "SETUSER", name, "reset", *rules)
    assert check(server).findings == []
