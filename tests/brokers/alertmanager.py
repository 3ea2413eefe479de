"""An Alertmanager of its own for the tests, with a given configuration."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.brokers import process
from tests.brokers.binaries import find


@dataclass(frozen=True, slots=True)
class Alertmanager:
    port: int

    def post(self, alerts: Sequence[Mapping[str, str]]) -> None:
        """Let these fire, each given by its labels."""
        body = json.dumps([{"labels": labels} for labels in alerts]).encode()
        headers = {"Content-Type": "application/json"}
        self._open(Request(self._url("alerts"), data=body, headers=headers))  # noqa: S310 - http

    def active(self) -> set[str]:
        """Names of the alerts that reach somebody: neither silenced nor inhibited."""
        found = self._open(Request(self._url("alerts")))  # noqa: S310 - http
        return {
            alert["labels"]["alertname"] for alert in found if alert["status"]["state"] == "active"
        }

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/api/v2/{path}"

    def _open(self, request: Request) -> Any:
        with urlopen(request, timeout=10) as answer:  # noqa: S310 - http
            content = answer.read()
        return json.loads(content) if content else None


@contextmanager
def alertmanager(folder: Path, config: Path) -> Iterator[Alertmanager]:
    port = process.free_port()
    command: list[str | Path] = [find("prometheus-alertmanager"), f"--config.file={config}"]
    command += [f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    command += ["--cluster.listen-address=", "--log.level=warn"]
    with process.start(
        command, ready=lambda: process.listens(port), log=folder / "alertmanager.log"
    ):
        yield Alertmanager(port)
