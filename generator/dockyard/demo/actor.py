"""One service of the demo: its process, the commands that a person types, what its metrics say."""

import json
import re
import signal
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

from dockyard.demo.stage import PATIENCE, end, free_port, wait_for
from dockyard.errors import ToolFailed

_CONSUMED = re.compile(
    r'^messaging_client_consumed_messages_total\{outcome="(?P<outcome>\w+)".*\} (?P<count>\S+)$',
    re.MULTILINE,
)


@dataclass
class Actor:
    """A rendered service in `folder`, started with `env`, which logs to the file `log`."""

    name: str
    folder: Path
    env: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    http_port: int = field(default_factory=free_port)
    api_port: int = field(default_factory=free_port)
    _counted: Counter[str] = field(default_factory=Counter)
    """Deliveries by outcome of the processes that have ended: counters end with their process."""

    def run(self, *arguments: str, meanwhile: Callable[[], None] | None = None) -> str:
        """The output of one of the service's commands. Raises ToolFailed."""
        with subprocess.Popen(  # noqa: S603 - the rendered service's own command
            [self.folder / ".venv/bin" / self.name, *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as command:
            if meanwhile is not None:
                meanwhile()
            output, errors = command.communicate()
        if command.returncode:
            raise ToolFailed(f"run {self.name} {arguments[0]}", errors or output)
        return output

    def post(
        self, path: str, body: Mapping[str, object], key: str
    ) -> tuple[int, Mapping[str, object]]:
        """Status and body of the answer to a request with this key. Raises ToolFailed."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api_port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Idempotency-Key": key},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - http
                return answer.status, json.load(answer)
        except OSError as error:
            raise ToolFailed(f"post to {self.name}{path}", str(error)) from error

    def start(self) -> None:
        """Start the service and return when it is ready."""
        ports = {"CHASSIS_HTTP_PORT": str(self.http_port), "CHASSIS_API_PORT": str(self.api_port)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the rendered service's own command
                [self.folder / ".venv/bin" / self.name, "run"],
                cwd=self.folder,
                env=self.env | ports,
                stderr=log,
                process_group=0,
            )
        wait_for(self._is_ready, f"the start of {self.name}")

    @property
    def pid(self) -> int:
        return self._running().pid

    def kill(self) -> None:
        """SIGKILL: no time to say goodbye."""
        self._counted += self._counted_now()
        self._running().kill()
        self._running().wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code once it has drained."""
        self._counted += self._counted_now()
        self._running().send_signal(signal.SIGTERM)
        return self._running().wait(PATIENCE)

    def end(self) -> None:
        if self.process is not None:
            end(self.process)

    def dead_letters(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.run("dlq", "list", "--json").splitlines()]

    def outcomes(self) -> Counter[str]:
        """How many deliveries ended in which way, as all processes of this service counted them."""
        return self._counted + self._counted_now()

    def _counted_now(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        if self.process is not None and self.process.poll() is None:
            url = f"http://127.0.0.1:{self.http_port}/metrics"
            with urllib.request.urlopen(url, timeout=5) as page:
                for found in _CONSUMED.finditer(page.read().decode()):
                    counted[found["outcome"]] += int(float(found["count"]))
        return counted

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None  # noqa: S101 - it was started
        return self.process

    def _is_ready(self) -> bool:
        if self._running().poll() is not None:
            raise ToolFailed(f"start {self.name}", self.log.read_text()[-600:])
        try:
            url = f"http://127.0.0.1:{self.http_port}/readyz"
            with urllib.request.urlopen(url, timeout=1) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False
