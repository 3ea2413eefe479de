"""A RabbitMQ for the tests: free ports, its own epmd, data in a folder that outlives a kill.

Starting takes seconds, so that tests share one node; a virtual host keeps them apart.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.brokers.binaries import find
from tests.brokers.epmd import mapper
from tests.brokers.lines import Lines
from tests.brokers.process import Server, free_port, listens, start
from tests.waiting import until

_LOGIN = base64.b64encode(b"guest:guest").decode()
_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
disk_free_limit.absolute = 50MB
max_message_size = 4194304
log.file.level = warning
"""
_METRICS = """\
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {shown}
collect_statistics_interval = 1000
"""


_JOIN = """\
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = {first}@localhost
"""


class ManagementError(RuntimeError):
    """The management API refused a request."""


@dataclass(frozen=True, slots=True)
class RabbitMQ:
    """A running node. `server` can be stopped or killed and started again; its data stays.

    RabbitMQ 3.10 loses a quorum queue younger than a second or two when it is killed: then stop it.
    """

    server: Server
    amqp_port: int
    http_port: int
    metrics_port: int | None = None
    """Of the plugin rabbitmq_prometheus, for a node that has it."""
    env: Mapping[str, str] = field(default_factory=dict)

    def control(self, *command: str) -> str:
        """What `rabbitmqctl` prints."""
        return subprocess.run(
            [find("rabbitmqctl"), *command],
            env=os.environ | self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        ).stdout

    @contextmanager
    def vhost(self, name: str) -> Iterator[str]:
        """The URL of a new, empty virtual host, deleted afterwards. Starts a dead node first."""
        if not self.server.alive:
            self.server.start()
        path = quote(name, safe="")
        self.call("PUT", f"/api/vhosts/{path}")
        self.call(
            "PUT",
            f"/api/permissions/{path}/guest",
            {"configure": ".*", "write": ".*", "read": ".*"},
        )
        try:
            yield f"amqp://guest:guest@127.0.0.1:{self.amqp_port}/{path}"
        finally:
            if self.server.alive:
                self.call("DELETE", f"/api/vhosts/{path}")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request to the management API. Raises ManagementError."""
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        try:
            headers = {"Authorization": f"Basic {_LOGIN}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise ManagementError(
                f"{method} {path}: {response.status} {content.decode(errors='replace')}"
            )
        return json.loads(content) if content else None


@contextmanager
def rabbitmq_server(folder: Path, *, metrics: bool = False) -> Iterator[RabbitMQ]:
    """A node with the management API. Its epmd runs in the foreground, so it can be stopped too.

    `metrics`: with the plugin for Prometheus, whose numbers are then a second old at most.
    """
    epmd, distribution = free_port(), free_port()
    env = {"HOME": str(folder), "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(epmd)}
    with (
        start([find("epmd")], ready=lambda: listens(epmd), log=folder / "epmd.log", env=env),
        _node(folder, f"test{epmd}", epmd, distribution, metrics=metrics) as node,
    ):
        yield node


@contextmanager
def _node(
    folder: Path, name: str, epmd: int, distribution: int, config: str = "", *, metrics: bool
) -> Iterator[RabbitMQ]:
    amqp, http, shown = (free_port() for _ in range(3))
    config = _CONFIG.format(amqp=amqp, http=http) + config
    plugins = "rabbitmq_management"
    if metrics:
        config += _METRICS.format(shown=shown)
        plugins += ", rabbitmq_prometheus"
    (folder / "rabbitmq.conf").write_text(config)
    (folder / "enabled_plugins").write_text(f"[{plugins}].\n")
    env = {
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_NODENAME": f"{name}@localhost",
    }
    with start(
        [find("rabbitmq-server")],
        ready=lambda: listens(amqp) and listens(http),
        log=folder / "server.log",
        env=env,
    ) as server:
        yield RabbitMQ(server, amqp, http, shown if metrics else None, env)


@contextmanager
def rabbitmq_cluster(folder: Path, lines: Lines, config: str = "") -> Iterator[list[RabbitMQ]]:
    """Nodes n0@localhost, n1@localhost, … of one cluster, which reach each other by `lines`.

    Each has a port mapper of its own: it has to reach the others by its own lines.
    """
    size = len(lines.ports)
    names = [f"n{number}" for number in range(size)]
    config += "cluster_partition_handling = pause_minority\n"
    with ExitStack() as stack:
        nodes = []
        for number, name in enumerate(names):
            others = {
                other: lines.port(number, far) for far, other in enumerate(names) if other != name
            }
            home = folder / name
            home.mkdir()
            cookie = home / ".erlang.cookie"
            cookie.write_text("cluster")
            cookie.chmod(0o400)
            epmd = stack.enter_context(mapper(others))
            joined = _JOIN.format(first=names[0]) if number else ""
            node = _node(home, name, epmd, lines.ports[number], config + joined, metrics=False)
            nodes.append(stack.enter_context(node))
            # An orderly stop takes seconds, and nobody needs the data any more.
            stack.callback(nodes[-1].server.kill)
        until(
            lambda: all(
                sum(node["running"] for node in each.call("GET", "/api/nodes")) == size
                for each in nodes
            ),
            "the nodes finding each other",
        )
        yield nodes


_shared = ExitStack()


@cache
def shared_rabbitmq() -> RabbitMQ:
    """The node that all tests of this process share."""
    folder = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
    _shared.callback(shutil.rmtree, folder, ignore_errors=True)
    node = _shared.enter_context(rabbitmq_server(folder))
    # An orderly stop takes seconds, and nobody needs the data any more.
    _shared.callback(node.server.kill)
    return node


def stop_shared_rabbitmq() -> None:
    """Stop the shared node, if it was started. A killed process leaves it to its watcher."""
    _shared.close()
    shared_rabbitmq.cache_clear()
