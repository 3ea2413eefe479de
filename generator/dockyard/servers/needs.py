"""What a service needs of each component: names and rights that follow from its own name.

The one place that bootstrap, manifests and check read. Knows no server.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

RABBITMQ_OLDEST = (3, 10)
NATS_OLDEST = (2, 12)
REDIS_OLDEST = (5, 0)
POSTGRESQL_OLDEST = (13,)

EXCHANGE = "events"
EVENTS = "EVENTS"
BUCKET = "inbox"
PROCESSES = "processes"
DAY = 86_400
_SECOND = 10**9

SERVICE_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Quotas:
    """Bounds that bootstrap gives: `connections` of each service, `retention` of the inbox (s)."""

    connections: int = 100
    retention: int = 7 * DAY
    event_bytes: int | None = None


# RabbitMQ: permissions are regular expressions over names of exchanges and queues.


def rabbitmq_rights(service: str) -> Mapping[str, str]:
    """The least permissions. Everything below `<service>.` is the service's own.

    Retries go through the default exchange, which RabbitMQ calls `amq.default`.
    """
    own = rf"{re.escape(service)}(\..+)?"
    return {
        "configure": rf"^({EXCHANGE}|{own})$",
        "write": rf"^({EXCHANGE}|amq\.default|{own})$",
        "read": rf"^({EXCHANGE}|{own})$",
    }


def rabbitmq_names(service: str) -> Mapping[str, tuple[str, ...]]:
    """Names that each right must cover."""
    own = (
        EXCHANGE,
        service,
        f"{service}.dead",
        f"{service}.later.100ms",
        f"{service}.replica.0123",
    )
    return {"configure": own, "write": (*own, "amq.default"), "read": own}


# NATS: rights are subjects; `*` and `>` are wildcards.


def nats_publishes(service: str) -> tuple[str, ...]:
    """The subjects that a service publishes to, those of JetStream's API among them."""
    subjects = ["events.>", *(f"{kind}.{service}.>" for kind in ("replay", "delayed", "alone"))]
    subjects += [f"dlq.{service}.>", f"$KV.{BUCKET}.>", "$SYS.REQ.USER.INFO"]
    token = blake2b(service.encode(), digest_size=8).hexdigest()  # as the chassis writes it
    letters, inbox, processes = f"DLQ_{service}", f"KV_{BUCKET}", f"KV_{PROCESSES}"
    subjects += [f"$KV.{PROCESSES}.{token}.>", f"$JS.API.STREAM.MSG.GET.{processes}"]
    subjects += [f"$JS.API.STREAM.INFO.{stream}" for stream in (EVENTS, letters, inbox, processes)]
    for stream in (letters, inbox):
        subjects += [f"$JS.API.STREAM.MSG.{verb}.{stream}" for verb in ("GET", "DELETE")]
    subjects += [f"$JS.API.STREAM.PURGE.{inbox}"]
    for consumer in (service, f"{service}-alone"):
        api = [f"$JS.API.CONSUMER.{verb}.{EVENTS}" for verb in ("CREATE", "INFO", "MSG.NEXT")]
        subjects += [f"{call}.{consumer}" for call in api]
        subjects += [f"$JS.ACK.{EVENTS}.{consumer}.>"]
    return tuple(subjects)


def nats_private_publishes() -> tuple[str, ...]:
    """Further subjects of a service with `delivery="every_replica"`.

    Its consumers have random names, and a wildcard stands for a whole part of a subject. So these
    reach the consumers of other services too.
    """
    verbs = ("CREATE", "INFO", "MSG.NEXT", "DELETE")
    return (*(f"$JS.API.CONSUMER.{verb}.{EVENTS}.*" for verb in verbs), f"$JS.ACK.{EVENTS}.*.>")


NATS_SUBSCRIBES = ("_INBOX.>",)


def nats_streams(
    services: tuple[str, ...], replicas: int, quotas: Quotas
) -> list[dict[str, object]]:
    """The streams as the chassis would make them, so that a service has nothing to change."""
    kept = {"storage": "file", "num_replicas": replicas}
    events: dict[str, object] = {
        "name": EVENTS,
        "subjects": ["events.>", "replay.>", "delayed.>", "alone.>"],
        "allow_msg_schedules": True,
        "max_age": 7 * DAY * _SECOND,
        **kept,
    }
    if quotas.event_bytes is not None:
        events["max_bytes"] = quotas.event_bytes
    inbox: dict[str, object] = {
        "name": f"KV_{BUCKET}",
        "subjects": [f"$KV.{BUCKET}.>"],
        "max_msgs_per_subject": 1,
        "max_age": quotas.retention * _SECOND,
        "discard": "new",
        "allow_msg_ttl": True,
        **kept,
    }
    processes: dict[str, object] = {
        "name": f"KV_{PROCESSES}",
        "subjects": [f"$KV.{PROCESSES}.>"],
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_msg_ttl": True,
        **kept,
    }
    letters: list[dict[str, object]] = [
        {
            "name": f"DLQ_{service}",
            "subjects": [f"dlq.{service}.>"],
            "discard": "new",
            "max_msgs": 100_000,
            "max_bytes": 256 * 1024 * 1024,
            **kept,
        }
        for service in services
    ]
    return [events, inbox, processes, *letters]


# Redis: rights are commands and patterns of keys.

REDIS_COMMANDS = (
    "ping",
    "hello",
    "select",
    "info",
    "eval",
    "evalsha",
    "script|load",
    "time",
    "get",
    "set",
    "pexpire",
    "pttl",
    "del",
    "mget",
    "zadd",
    "zrem",
    "zrangebylex",
)
REDIS_KEYS = "inbox:*"


def redis_patterns(service: str) -> tuple[str, ...]:
    """Patterns of keys: the inbox, whose keys hold no service's name, and the own processes."""
    return (REDIS_KEYS, f"process:{service}", f"process:{service}:*")


def redis_rules(service: str) -> tuple[str, ...]:
    """Rules of `ACL SETUSER`, the password excepted."""
    keys = tuple(f"~{pattern}" for pattern in redis_patterns(service))
    return ("reset", "on", *keys, "-@all", *(f"+{name}" for name in REDIS_COMMANDS))


# PostgreSQL: a database for each service, a role that works and a role that migrates.


def postgresql_names(service: str) -> tuple[str, str]:
    """Database and working role, which have one name, and the role that migrates."""
    name = service.replace("-", "_")
    return name, f"{name}_migrate"


POSTGRESQL_TABLES: Mapping[str, tuple[str, ...]] = {
    "chassis_schema": ("SELECT",),
    "chassis_inbox": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "chassis_outbox": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "chassis_process": ("SELECT", "INSERT", "UPDATE", "DELETE"),
}
POSTGRESQL_SEQUENCES = ("chassis_inbox_fence",)
