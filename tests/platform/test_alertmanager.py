"""Alertmanager's configuration: who is told of what, and which alerts another one explains."""

import asyncio
from pathlib import Path

import pytest
import yaml

from tests.brokers.alertmanager import Alertmanager, alertmanager
from tests.brokers.binaries import find
from tests.platform.rules import PLATFORM, every_rule
from tests.template import lab

CONFIG = PLATFORM / "alertmanager/alertmanager.yaml"
PATIENCE = 60.0  # seconds until a test gives up; never a measure of speed
RUNBOOKS = PLATFORM.parent / "template/docs/runbooks"
OF_SERVICES = {path.name.partition(".")[0] for path in RUNBOOKS.iterdir()}


def test_amtool_takes_it() -> None:
    lab.run([find("amtool"), "check-config", CONFIG], PLATFORM)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("team=platform severity=critical component=nats", "platform-now"),
        ("team=platform severity=warning component=nats", "platform"),
        ("team=billing severity=critical service=billing-svc", "billing-now"),
        ("team=billing severity=warning service=billing-svc", "billing"),
        ("severity=critical service=orders-svc", "everybody"),
    ],
)
def test_an_alert_goes_to_its_team(labels: str, receiver: str) -> None:
    command = [find("amtool"), "config", "routes", "test", f"--config.file={CONFIG}"]
    assert lab.run([*command, *labels.split()], PLATFORM).splitlines()[-1] == receiver


def test_the_alerts_it_names_exist() -> None:
    names = every_rule().keys() | OF_SERVICES
    for rule in yaml.safe_load(CONFIG.read_text("utf-8"))["inhibit_rules"]:
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]:
            label, _, pattern = matcher.partition("=")
            if label == "alertname":
                for name in expanded(pattern.lstrip("~").strip('"')):
                    assert name in names, name


def expanded(pattern: str) -> list[str]:
    """The names that a pattern of alternatives, one group in each at most, stands for."""
    names, depth, start = [], 0, 0
    for at, sign in enumerate(pattern + "|"):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "|" and depth == 0:
            before, group, after = _parts(pattern[start:at])
            names += [before + each + after for each in group.split("|")]
            start = at + 1
    return names


def _parts(text: str) -> tuple[str, str, str]:
    before, opened, rest = text.partition("(")
    group, _, after = rest.partition(")")
    return (before, group, after) if opened else (text, "", "")


SERVICE = {"service": "billing-svc", "namespace": "prod"}


@pytest.mark.parametrize(
    ("alerts", "told"),
    [
        pytest.param(
            [
                {"alertname": "RabbitMQDown", "component": "rabbitmq"},
                {"alertname": "RabbitMQNodeMissing", "component": "rabbitmq"},
                {"alertname": "BrokerUnreachable", **SERVICE},
                {"alertname": "NoReplicaReady", **SERVICE},
                {"alertname": "CrashLoop", **SERVICE},
                {"alertname": "RedisMemoryHigh", "component": "redis"},
            ],
            {"RabbitMQDown", "CrashLoop", "RedisMemoryHigh"},
            id="broker down",
        ),
        pytest.param(
            [
                {"alertname": "RabbitMQDown", "component": "rabbitmq", "cluster": "staging"},
                {"alertname": "BrokerUnreachable", **SERVICE, "cluster": "prod"},
            ],
            {"RabbitMQDown", "BrokerUnreachable"},
            id="broker of another cluster down",
        ),
        pytest.param(
            [
                {"alertname": "PostgreSQLDown", "component": "postgresql"},
                {"alertname": "StoreUnreachable", **SERVICE},
                {"alertname": "OutboxTooOld", **SERVICE},
                {"alertname": "BrokerUnreachable", **SERVICE},
            ],
            {"PostgreSQLDown", "BrokerUnreachable"},
            id="store down",
        ),
        pytest.param(
            [
                {"alertname": "NATSMetaLeaderMissing", "component": "nats"},
                {"alertname": "NATSNodeMissing", "component": "nats"},
                {"alertname": "NATSStreamWithoutLeader", "component": "nats", "stream": "EVENTS"},
                {"alertname": "NATSSlowConsumers", "component": "nats"},
            ],
            {"NATSMetaLeaderMissing", "NATSSlowConsumers"},
            id="majority lost",
        ),
        pytest.param(
            [
                {"alertname": "RedisEvictsKeys", "component": "redis", "instance": "a"},
                {"alertname": "RedisPolicyEvicts", "component": "redis", "instance": "a"},
                {"alertname": "RedisMemoryHigh", "component": "redis", "instance": "b"},
            ],
            {"RedisEvictsKeys", "RedisMemoryHigh"},
            id="keys evicted",
        ),
    ],
)
async def test_what_another_alert_explains_disturbs_nobody(
    alerts: list[dict[str, str]], told: set[str], tmp_path: Path
) -> None:
    with alertmanager(tmp_path, CONFIG) as running:
        running.post(alerts)
        await until(running, told)


async def until(running: Alertmanager, told: set[str]) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + PATIENCE
    while (active := running.active()) != told:
        assert clock() < deadline, f"{active} and not {told}"
        await asyncio.sleep(0.1)
