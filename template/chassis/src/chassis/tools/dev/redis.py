"""Redis, for `dev`, with every write in its append-only file."""

import os
from collections.abc import Mapping
from pathlib import Path

from chassis.tools.dev.server import Container, Launch, Place, Server, greeted

_CONFIG = """\
bind 127.0.0.1
port {port}
dir {folder}
requirepass {password}
appendonly yes
save ""
maxmemory-policy noeviction
"""
# The password is in no command line: redis-server reads its settings from its input.
_CONTAINED = (
    'echo "requirepass $PASSWORD" | redis-server - --appendonly yes --maxmemory-policy noeviction'
)


def _program(place: Place, found: Mapping[str, Path]) -> Launch:
    folder = _quoted(place.folder)
    config = place.write(
        "redis.conf", _CONFIG.format(port=place.port, folder=folder, password=place.password)
    )
    program = found["redis-server"]
    return Launch([str(program), str(config)], origin=str(program))


def _quoted(folder: Path) -> str:
    escaped = os.fspath(folder).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


async def _answers(place: Place) -> bool:
    # After QUIT it closes, also if it has said no PONG because it still loads its data.
    hello = f"AUTH {place.password}\r\nPING\r\nQUIT\r\n".encode()
    return (await greeted(place.port, hello, b"PONG")).endswith(b"PONG")


async def _url(place: Place, _service: str) -> str:
    return f"redis://:{place.password}@127.0.0.1:{place.port}/0"


REDIS = Server(
    kind="redis",
    name="Redis",
    programs={"redis-server": ()},
    package="redis-server",
    container=Container(
        6379, "/data", env={"PASSWORD": "{password}"}, arguments=("/bin/sh", "-c", _CONTAINED)
    ),
    program=_program,
    answers=_answers,
    url=_url,
    without="the inbox is a bucket of NATS instead of Redis, and leases are whole seconds",
)
