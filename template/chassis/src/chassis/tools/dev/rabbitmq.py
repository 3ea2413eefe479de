"""RabbitMQ, for `dev`: a node with an epmd of its own, so that nothing stays behind."""

from collections.abc import Mapping
from pathlib import Path

from chassis.tools.dev.server import Container, Launch, Place, Server, free_port, greeted

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = dockyard
default_pass = {password}
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = warning
log.file = false
"""
_BOTH = '"$0" & exec "$1"'
"""epmd lives in the process group of the node, and ends with it."""


def _program(place: Place, found: Mapping[str, Path]) -> Launch:
    folder = place.folder
    config = place.write("rabbitmq.conf", _CONFIG.format(port=place.port, password=place.password))
    plugins = place.write("enabled_plugins", "[].\n")
    return Launch(
        ["/bin/sh", "-c", _BOTH, str(found["epmd"]), str(found["rabbitmq-server"])],
        origin=str(found["rabbitmq-server"]),
        env={
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_NODENAME": "dockyard@localhost",  # its data is kept under this name
        },
    )


async def _answers(place: Place) -> bool:
    # AMQP 0-9-1, 4.2.2: the server answers the header with a method frame, Connection.Start.
    start = await greeted(place.port, b"AMQP\x00\x00\x09\x01", b"\x00\x0a\x00\x0a")
    return start.startswith(b"\x01")


async def _url(place: Place, _service: str) -> str:
    return f"amqp://dockyard:{place.password}@127.0.0.1:{place.port}/%2F"


RABBITMQ = Server(
    kind="rabbitmq",
    name="RabbitMQ",
    # Not usr/sbin: there Debian keeps a wrapper that changes the user and the environment.
    programs={
        "rabbitmq-server": (
            "usr/lib/rabbitmq/bin",
            "opt/homebrew/opt/rabbitmq/sbin",
            "usr/local/opt/rabbitmq/sbin",
        ),
        "epmd": (
            "usr/lib*/erlang/erts-*/bin",
            "opt/homebrew/opt/erlang/lib/erlang/erts-*/bin",
            "usr/local/opt/erlang/lib/erlang/erts-*/bin",
            "usr/local/lib/erlang/erts-*/bin",
        ),
    },
    package="rabbitmq-server",
    container=Container(
        5672,
        "/var/lib/rabbitmq",
        env={"RABBITMQ_DEFAULT_USER": "dockyard", "RABBITMQ_DEFAULT_PASS": "{password}"},
    ),
    program=_program,
    answers=_answers,
    url=_url,
    without="services that run on RabbitMQ do not hear this one",
)
