"""Prometheus and Alertmanager with the platform's rules over real components; waits for alerts.

All times of the rules are a thirtieth of a cluster's, and Prometheus scrapes every second.
Thresholds that no test reaches in time are changed by the chart's own values.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.brokers.alertmanager import Alertmanager, alertmanager
from tests.brokers.prometheus import Prometheus, scraping
from tests.platform.chart import alerts
from tests.platform.rules import COMPONENTS, PLATFORM
from tests.platform.series import named

PATIENCE = 180.0  # seconds until a test gives up; never a measure of speed
SHORTER = 30
_UNITS = {"m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?<=[\[ ])(\d+)([mhd])(?=[\],\s)])")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watch:
    component: str
    rules: Mapping[str, Mapping[str, Any]]
    prometheus: Prometheus
    alertmanager: Alertmanager

    async def fires(self, *names: str) -> None:
        """Return once each of these has fired, not necessarily at the same time."""
        await self._seen("fired", names, lambda firing, name: name in firing)

    async def resolves(self, *names: str) -> None:
        """Return once each of these has ceased to fire, not necessarily at the same time."""
        await self._seen("resolved", names, lambda firing, name: name not in firing)

    async def quiet(self) -> None:
        """Return once nothing fires."""
        await eventually(
            lambda: not self.prometheus.firing(),
            lambda: f"firing: {sorted(self.prometheus.firing())}",
        )

    async def told(self, name: str, *, active: bool) -> None:
        """Return once Alertmanager tells somebody of this alert, or does so no more."""
        await eventually(
            lambda: (name in self.alertmanager.active()) == active,
            lambda: f"Alertmanager tells of {sorted(self.alertmanager.active())}",
        )

    async def shows_what_rules_and_dashboard_ask_for(self) -> None:
        """Return once every series of the rules and every query of the dashboard has a value."""
        board = json.loads(
            (PLATFORM / f"chart/files/dashboards/{self.component}.json").read_text("utf-8")
        )
        missing = {
            target["expr"].replace("$__rate_interval", "5s").replace("$__range", "1m")
            for panel in board["panels"]
            for target in panel.get("targets", ())
        }
        missing |= {name for rule in self.rules.values() for name in named(rule["expr"])}
        missing -= ELSEWHERE
        assert len(missing) > 15

        def answered() -> bool:
            missing.difference_update([q for q in missing if self.prometheus.values(q)])
            return not missing

        await eventually(answered, lambda: "\n".join(["no data for", *sorted(missing)]))

    async def _seen(
        self, what: str, names: Sequence[str], true: Callable[[Mapping[str, Any], str], bool]
    ) -> None:
        assert set(names) <= self.rules.keys()
        clock = asyncio.get_running_loop().time
        began, missing = clock(), set(names)

        def seen() -> bool:
            firing = self.prometheus.firing()
            for name in [name for name in missing if true(firing, name)]:
                missing.remove(name)
                _log.info("%s %s after %.0f s", name, what, clock() - began)
            return not missing

        await eventually(seen, lambda: f"not {what}: {sorted(missing)}")


ELSEWHERE = {
    "chassis_build_info",  # of services
    "nats_server_certificate_expiry_timestamp_seconds",  # of servers with TLS
    "nats_server_jetstream_meta_has_leader",  # of clusters
    "pg_platform_slots_retained_bytes",  # where there is a slot
    "redis_connected_slave_lag_seconds",  # where there is a replica
    "redis_master_link_up",  # of a replica
}
"""What one server alone does not show; the faults' tests see to it."""


async def eventually(true: Callable[[], bool], what: Callable[[], str], pace: float = 0.2) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + PATIENCE
    while not await asyncio.to_thread(true):
        assert clock() < deadline, f"{what()} within {PATIENCE:g} s"
        await asyncio.sleep(pace)


def shortened(rule: Mapping[str, Any]) -> dict[str, Any]:
    def seconds(found: re.Match[str]) -> str:
        return f"{int(found[1]) * _UNITS[found[2]] // SHORTER}s"

    times = {"for": _DURATION.sub(seconds, f" {rule['for']} ").strip()} if "for" in rule else {}
    return {**rule, **times, "expr": _DURATION.sub(seconds, rule["expr"])}


@contextmanager
def watch(
    folder: Path,
    component: str,
    scrape_configs: Sequence[Mapping[str, Any]],
    *,
    nodes: int = 1,
    thresholds: Mapping[str, float] | None = None,
) -> Iterator[Watch]:
    """The rules of one component over what `scrape_configs` scrape."""
    folder.mkdir()
    changes = {name: {"threshold": number} for name, number in (thresholds or {}).items()}
    values = {other: {"enabled": other == component} for other in COMPONENTS}
    its: dict[str, object] = {"enabled": True}
    if component != "kubernetes":
        its["nodes"] = nodes
    rules = alerts({**values, component: its, "alerts": changes})
    text = yaml.safe_dump(
        {"groups": [{"name": component, "rules": [shortened(rule) for rule in rules.values()]}]}
    )
    with (
        alertmanager(folder, PLATFORM / "alertmanager/alertmanager.yaml") as telling,
        scraping(folder, scrape_configs, text, telling.port) as running,
    ):
        yield Watch(component, rules, running, telling)
