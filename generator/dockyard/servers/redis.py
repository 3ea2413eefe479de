"""Redis: a user for each service by ACL, and what keeps records from being lost."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import time
from typing import TYPE_CHECKING, Any

from dockyard.servers import needs, passwords
from dockyard.servers.address import Address, Unreachable
from dockyard.servers.clients import client_of
from dockyard.servers.findings import Report

if TYPE_CHECKING:
    from redis import Redis

TIMEOUT_SECONDS = 10


@contextmanager
def _connected(address: Address) -> "Iterator[Redis]":
    """A client; its errors are Unreachable."""
    redis = client_of("redis")
    try:
        with redis.Redis.from_url(
            address.url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            decode_responses=True,
        ) as client:
            yield client
    except (redis.RedisError, OSError, ValueError) as error:
        raise Unreachable(address, str(error)) from None


def bootstrap(address: Address, services: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Make a user for each service. They stay after a restart if the server has an ACL file."""
    made = []
    with _connected(address) as client:
        for service in services:
            rules = (*needs.redis_rules(service), passwords.of_redis(known[service]))
            _acl(client, "SETUSER", service, *rules)
            made.append(f"user {service}")
        if client.config_get("aclfile").get("aclfile"):
            _acl(client, "SAVE")
        else:
            made.append("users last until a restart: the server has no `aclfile`")
    return made


def check(address: Address, services: Sequence[str], nodes: int | None) -> Report:
    report = Report("redis", address.shown)
    with _connected(address) as client:
        info: dict[str, Any] = client.info()
        report.version(str(info.get("redis_version", "")), needs.REDIS_OLDEST, "Redis")
        seconds, microseconds = client.time()
        report.clock(seconds + microseconds / 1e6 - time())
        _roles(report, info, nodes)
        _memory(report, client)
        _persistence(report, info)
        for service in services:
            _rights(report, client, service)
    return report


def _roles(report: Report, info: Mapping[str, Any], nodes: int | None) -> None:
    if info.get("role") != "master":
        report.fault("replication", "it is a replica and takes no writes", "give the primary's URL")
    elif nodes is not None:
        report.nodes(1 + int(info.get("connected_slaves", 0)), nodes, "replication")
    if info.get("redis_mode") == "cluster":
        mend = "use a Redis without cluster mode, or another store"
        report.fault(
            "mode", "it is a cluster, whose scripts cannot use keys of several slots", mend
        )


def _memory(report: Report, client: "Redis") -> None:
    report.seen.append("eviction")
    memory = client.info("memory")
    policy = memory.get("maxmemory_policy")
    if policy == "noeviction":
        return
    mend = "`CONFIG SET maxmemory-policy noeviction`, and the same in its configuration"
    what = (
        f"its policy is {policy}: it forgets which events were handled, and they are handled again"
    )
    (report.fault if memory.get("maxmemory") else report.warn)("maxmemory-policy", what, mend)


def _persistence(report: Report, info: Mapping[str, Any]) -> None:
    report.seen.append("persistence")
    if not info.get("aof_enabled"):
        what = "the append-only file is off: a crash forgets the last handled events"
        report.warn(
            "appendonly", what, "`CONFIG SET appendonly yes`, and the same in its configuration"
        )
    for name in ("aof_last_write_status", "rdb_last_bgsave_status"):
        if info.get(name, "ok") != "ok":
            mend = "look at its log and at the space of its disk"
            report.fault(name, "its last write to disk failed, and it takes no writes", mend)


def _rights(report: Report, client: "Redis", service: str) -> None:
    """Ask the server about each command, as the user would send it."""
    report.seen.append(f"rights of {service}")
    where = f"user {service}"
    names = _acl(client, "USERS")
    if service not in names:
        report.fault(where, "it does not exist", "make it with `dockyard platform bootstrap`")
        return
    trials = _trials(service)
    refused = [name for name, command in trials.items() if not _allowed(client, service, command)]
    keys = needs.redis_patterns(service)
    if refused:
        rules = " ".join([*(f"~{key}" for key in keys), *(f"+{name}" for name in refused)])
        what = f"it may not use {', '.join(refused)} on the keys {', '.join(keys)}"
        report.fault(where, what, f"`ACL SETUSER {service} {rules}`")
    if _allowed(client, service, ("FLUSHALL",)) or _allowed(client, service, _CONFIG):
        rules = " ".join(needs.redis_rules(service)[2:])
        report.warn(where, "it has more rights than it needs", f"`ACL SETUSER {service} {rules}`")


_CONFIG = ("CONFIG", "GET", "*")
_KEY = "inbox:dockyard-check"


def _trials(service: str) -> Mapping[str, tuple[str, ...]]:
    """Each right, and a command of a service that needs it. The server runs no such command."""
    processes = f"process:{service}"
    return {
        "ping": ("PING",),
        "script|load": ("SCRIPT", "LOAD", "return 1"),
        "time": ("TIME",),
        "get": ("GET", _KEY),
        "set": ("SET", _KEY, "v"),
        "pexpire": ("PEXPIRE", _KEY, "1"),
        "pttl": ("PTTL", _KEY),
        "del": ("DEL", _KEY),
        "evalsha": ("EVALSHA", "0" * 40, "1", _KEY),
        "eval": ("EVAL", "return 1", "1", _KEY),
        "mget": ("MGET", f"{processes}:id"),
        "zadd": ("ZADD", processes, "0", "id"),
        "zrem": ("ZREM", processes, "id"),
        "zrangebylex": ("ZRANGEBYLEX", processes, "-", "+"),
    }


def _allowed(client: "Redis", service: str, command: Sequence[str]) -> bool:
    return bool(_acl(client, "DRYRUN", service, *command) == "OK")


def _acl(client: "Redis", *command: str) -> Any:
    """One command about users."""
    return client.execute_command("ACL", *command)  # type: ignore[no-untyped-call] # of the library
