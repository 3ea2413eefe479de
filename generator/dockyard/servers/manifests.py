"""Files for servers whose users are configuration. They hold hashes of passwords, no password."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dockyard.servers import needs, passwords, postgresql, rabbitmq

BOOTSTRAP = "bootstrap"
"""The user of NATS that may do everything in the account of the services."""


def write(
    folder: Path,
    services: Sequence[str],
    known: Mapping[str, str],
    quotas: needs.Quotas,
    every_replica: Sequence[str] = (),
) -> list[Path]:
    """Write all files into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "rabbitmq-definitions.json": of_rabbitmq(services, known, quotas),
        "nats-accounts.conf": of_nats(services, every_replica),
        "redis-users.acl": of_redis(services, known),
        "postgresql.sql": of_postgresql(services, known, quotas),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    return [folder / name for name in texts]


def of_rabbitmq(
    services: Sequence[str], known: Mapping[str, str], quotas: needs.Quotas, vhost: str = "/"
) -> str:
    """Definitions, for `load_definitions` or `rabbitmqctl import_definitions`."""
    limits = {"limits": {"max-connections": quotas.connections}}
    exchange = {"name": needs.EXCHANGE, "vhost": vhost, "type": "topic", "durable": True}
    definitions = {
        "vhosts": [{"name": vhost}],
        "users": [
            {"name": service, **rabbitmq.user(known[service]), **limits} for service in services
        ],
        "permissions": [
            {"user": service, "vhost": vhost, **needs.rabbitmq_rights(service)}
            for service in services
        ],
        "exchanges": [{**exchange, "auto_delete": False, "internal": False, "arguments": {}}],
    }
    return json.dumps(definitions, indent=2) + "\n"


def variable(name: str) -> str:
    """The variable of the environment that gives NATS a password."""
    return f"{name.upper().replace('-', '_')}_PASSWORD"


def of_nats(services: Sequence[str], every_replica: Sequence[str] = ()) -> str:
    """An account with a user for each service, for `include` in the server's configuration."""
    users = [f'      {{ user: "{BOOTSTRAP}", password: ${variable(BOOTSTRAP)} }}']
    for service in services:
        subjects = needs.nats_publishes(service)
        if service in every_replica:
            subjects += needs.nats_private_publishes()
        publish = ", ".join(f'"{subject}"' for subject in subjects)
        subscribe = ", ".join(f'"{subject}"' for subject in needs.NATS_SUBSCRIBES)
        users.append(
            f'      {{ user: "{service}", password: ${variable(service)}, permissions: {{\n'
            f"        publish: {{ allow: [{publish}] }}\n"
            f"        subscribe: {{ allow: [{subscribe}] }}\n"
            "      } }"
        )
    return (
        "# Passwords come from the environment of the server; they must begin with a letter.\n"
        "accounts {\n  SERVICES {\n    jetstream: enabled\n    users: [\n"
        + "\n".join(users)
        + "\n    ]\n  }\n}\n"
    )


def of_redis(services: Sequence[str], known: Mapping[str, str]) -> str:
    """An ACL file. It names no default user, which so stays as the server has it."""
    lines = []
    for service in services:
        rules = [*needs.redis_rules(service)[1:], passwords.of_redis(known[service])]
        lines.append(f"user {service} {' '.join(rules)}\n")
    return "".join(lines)


def of_postgresql(services: Sequence[str], known: Mapping[str, str], quotas: needs.Quotas) -> str:
    """SQL for psql, as an administrator. It may run again."""
    lines = []
    for service in services:
        name, migrate = needs.postgresql_names(service)
        outside, inside = postgresql.statements(service, known, quotas)
        lines += [f"{statement};" for statement in outside]
        there = f"SELECT FROM pg_database WHERE datname = '{name}'"
        lines.append(f"SELECT 'CREATE DATABASE \"{name}\"' WHERE NOT EXISTS ({there})\\gexec")
        lines += [f"\\connect {name}", f'GRANT "{migrate}" TO CURRENT_USER;']
        lines += [f"{statement};" for statement in inside]
    return "\n".join(lines) + "\n"
