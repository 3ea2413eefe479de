"""A Prometheus for the tests: scrapes ports and evaluates one rule file every second."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import yaml

from tests.brokers import process
from tests.brokers.binaries import find


class QueryError(RuntimeError):
    """Prometheus refused a query."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    port: int

    def values(self, expr: str) -> list[float]:
        """What `expr` gives now, without what is no number. Raises QueryError."""
        found = self._get(f"query?query={quote(expr)}")["result"]
        return [value for sample in found if not isnan(value := float(sample["value"][1]))]

    def firing(self) -> dict[str, dict[str, str]]:
        """Annotations of the alerts that fire now, by name."""
        alerts = self._get("alerts")["alerts"]
        return {
            alert["labels"]["alertname"]: alert["annotations"]
            for alert in alerts
            if alert["state"] == "firing"
        }

    def cpu_seconds(self) -> float:
        """Processor time of Prometheus itself since its start."""
        (seconds,) = self._own("process_cpu_seconds_total")
        return seconds

    def round_seconds(self) -> float:
        """How long the last evaluation of all groups of rules took, one after the other."""
        return sum(self._own("prometheus_rule_group_last_duration_seconds"))

    def _own(self, name: str) -> list[float]:
        """The values of a metric of Prometheus itself."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return [float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line)]

    def _get(self, path: str) -> Any:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            raise QueryError(f"{path}: {error.read().decode(errors='replace')}") from error


@contextmanager
def prometheus(folder: Path, *, job: str, target: int, rules: str) -> Iterator[Prometheus]:
    """It scrapes 127.0.0.1:`target` as `job`; `rules` is the text of the rule file."""
    with scraping(folder, [{"job_name": job, **at(target)}], rules) as running:
        yield running


def at(*ports: int) -> dict[str, Any]:
    """The part of a scrape configuration that names the targets."""
    return {"static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}


@contextmanager
def scraping(
    folder: Path,
    scrape_configs: Sequence[Mapping[str, Any]],
    rules: str,
    alertmanager: int | None = None,
    interval: str = "1s",
) -> Iterator[Prometheus]:
    """A Prometheus with these `scrape_configs` and rules. It tells the Alertmanager at its port."""
    folder.mkdir(exist_ok=True)
    (folder / "rules.yaml").write_text(rules)
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": ["rules.yaml"],
        "scrape_configs": list(scrape_configs),
    }
    if alertmanager is not None:
        config["alerting"] = {"alertmanagers": [at(alertmanager)]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = process.free_port()
    command: list[str | Path] = [find("prometheus"), f"--config.file={folder / 'prometheus.yaml'}"]
    command += [
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]

    def ready() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    with process.start(command, ready=ready, log=folder / "prometheus.log"):
        yield Prometheus(port)
