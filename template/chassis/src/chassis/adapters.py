"""From a URL to the adapter behind it: one line a broker, one line a store.

Adapters are imported only when their scheme is used, so a service installs only the clients it
needs.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast
from urllib.parse import urlsplit

from chassis.bus import Bus, BusMetrics
from chassis.inbox import Inbox
from chassis.processes.store import ProcessStore
from chassis.settings import REDIS_SCHEMES, Settings

_BUSES = {
    "amqp": ("chassis.bus.rabbitmq", "RabbitBus", "rabbitmq"),
    "amqps": ("chassis.bus.rabbitmq", "RabbitBus", "rabbitmq"),
    "nats": ("chassis.bus.nats", "NatsBus", "nats"),
    "tls": ("chassis.bus.nats", "NatsBus", "nats"),
}
_INBOXES = {
    "memory": ("chassis.inbox.memory", "MemoryInbox", ""),
    "nats": ("chassis.inbox.nats_kv", "NatsKvInbox", "nats"),
    "tls": ("chassis.inbox.nats_kv", "NatsKvInbox", "nats"),
    **dict.fromkeys(REDIS_SCHEMES, ("chassis.inbox.redis", "RedisInbox", "redis")),
    "postgresql": ("chassis.inbox.postgres.inbox", "PostgresInbox", "postgres"),
}

_PROCESSES = {
    "memory": ("chassis.processes.memory", "MemoryProcesses", ""),
    "nats": ("chassis.processes.nats_kv", "NatsKvProcesses", "nats"),
    "tls": ("chassis.processes.nats_kv", "NatsKvProcesses", "nats"),
    **dict.fromkeys(REDIS_SCHEMES, ("chassis.processes.redis", "RedisProcesses", "redis")),
}

ACK_WAIT_LEASES = 1.25
"""The broker waits this many leases for an acknowledgement.

It is longer than any lease, so the inbox decides first.
"""


class AdapterError(Exception):
    """The client library for a URL's scheme is not installed; the message says how to add it."""


def open_bus(settings: Settings, name: str, metrics: BusMetrics) -> Bus:
    """The bus of `settings`, not started yet. `name` tells the broker who is connected."""
    url = settings.bus
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return cast("Bus", _load("chassis.bus.memory", "MemoryBus", "", "memory://")())
    adapter = _load(*_BUSES[scheme], f"{scheme}://")
    _require_keys(url)
    if scheme.startswith("amqp"):
        return cast("Bus", adapter(url, name=name, metrics=metrics))
    return cast(
        "Bus",
        adapter(
            url,
            name=name,
            ack_wait=settings.lease_seconds * ACK_WAIT_LEASES,
            metrics=metrics,
            replicas=settings.nats_replicas,
            retention=settings.nats_max_age_seconds,
            max_bytes=settings.nats_max_bytes,
            dead_letters=settings.nats_dead_letters,
            dead_letter_bytes=settings.nats_dead_letter_bytes,
        ),
    )


def open_inbox(settings: Settings) -> Inbox:
    """The inbox of `settings`, not opened yet."""
    scheme = urlsplit(settings.inbox).scheme
    adapter = _load(*_INBOXES[scheme], f"{scheme}://")
    terms = {
        "lease_seconds": settings.lease_seconds,
        "retention_seconds": settings.retention_seconds,
    }
    if scheme == "memory":
        return cast("Inbox", adapter(**terms))
    if scheme == "postgresql":
        connections = {
            "connections": settings.database_connections,
            "patience": settings.handler_timeout_seconds / 2,
        }
        return cast(
            "Inbox", adapter(settings.inbox, **terms, **connections, migrates=settings.migrate)
        )
    if scheme in {"nats", "tls"}:
        _require_keys(settings.inbox)
        return cast("Inbox", adapter(settings.inbox, **terms, replicas=settings.nats_replicas))
    return cast("Inbox", adapter(settings.inbox, **terms))


def open_processes(settings: Settings, service: str, inbox: Inbox) -> ProcessStore:
    """The store of the processes of `service`, not opened yet. It is where the inbox is.

    In PostgreSQL it is part of `inbox`, and open while that is.
    """
    scheme = urlsplit(settings.inbox).scheme
    retention = settings.retention_seconds
    if scheme == "postgresql":
        return cast("_Processes", inbox).processes(service)
    adapter = _load(*_PROCESSES[scheme], scheme)
    if scheme == "memory":
        return cast("ProcessStore", adapter(retention))
    if scheme in {"nats", "tls"}:
        replicas = settings.nats_replicas
        return cast("ProcessStore", adapter(settings.inbox, service, retention, replicas=replicas))
    return cast("ProcessStore", adapter(settings.inbox, service, retention))


class _Processes(Protocol):
    def processes(self, service: str) -> ProcessStore: ...


def _require_keys(url: str) -> None:
    """Signing in with a key needs a package that a password does not need."""
    if "credsfile=" in url or "nkeyfile=" in url:
        _load("nkeys", "from_seed", "nkeys", "NATS with a credsfile or an nkeyfile")


def _load(module: str, name: str, extra: str, what: str) -> Callable[..., object]:
    try:
        return cast("Callable[..., object]", getattr(import_module(module), name))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("chassis"):
            raise
        raise AdapterError(
            f"{what} needs the package {error.name.partition('.')[0]!r}, which is not "
            f"installed: add dockyard-chassis[{extra}] to the dependencies in pyproject.toml"
        ) from error
