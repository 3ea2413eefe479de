"""compose.yaml and what it mounts: valid for its readers, complete, for this machine only."""

import json
import os
import re
import shutil
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.settings import load
from chassis.tools.dev.choice import chosen
from tests.brokers.binaries import find
from tests.once import made_once
from tests.template import lab

COMBINATIONS = list(
    product(*(lab.QUESTIONS[name]["choices"].values() for name in ("bus", "inbox")))
)
STORES = {"nats-kv": "nats", "redis": "redis", "postgres": "postgres"}


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def folder(
    request: pytest.FixtureRequest, template_without_chassis: Path, run_folder: Path
) -> Path:
    """A committed service without its chassis. Never written to by a test."""
    bus, inbox = request.param

    def make(folder: Path) -> None:
        target = folder / "billing-svc"
        lab.copy(template_without_chassis, target, service_name="billing-svc", bus=bus, inbox=inbox)

    return made_once(run_folder / f"compose-{bus}-{inbox}", make) / "billing-svc"


def _loaded(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return loaded


def _compose(folder: Path) -> dict[str, Any]:
    return _loaded(folder / "deploy/compose.yaml")


def _mounts(service: dict[str, Any]) -> dict[str, str]:
    """Target by source."""
    pairs = (volume.split(":")[:2] for volume in service.get("volumes", ()))
    return {source: target for source, target in pairs}  # noqa: C416 - each pair is a list


def test_compose_can_read_it(folder: Path) -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    lab.run(
        [Path(sys.executable).with_name("check-jsonschema"), *schema, "deploy/compose.yaml"], folder
    )


def test_it_starts_what_the_settings_lead_to_and_waits_for_it(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    bus, inbox = request.node.callspec.params["folder"]
    services = _compose(folder)["services"]
    assert services.keys() == {"service", "prometheus", "grafana", bus, STORES[inbox]}
    settings = load(services["service"]["environment"])
    assert f"@{bus}:" in settings.bus or f"//{bus}:" in settings.bus
    assert f"@{STORES[inbox]}:" in settings.inbox or f"//{STORES[inbox]}:" in settings.inbox
    assert services["service"]["depends_on"].keys() == {bus, STORES[inbox]}
    for service in services.values():
        assert "healthcheck" in service
        for needed in service.get("depends_on", {}).values():
            assert needed == {"condition": "service_healthy"}


def test_the_passwords_are_those_of_the_servers(folder: Path) -> None:
    services = _compose(folder)["services"]
    urls = services["service"]["environment"]
    for name, variable, user, password in (
        ("rabbitmq", "CHASSIS_BUS_URL", "RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS"),
        ("postgres", "CHASSIS_INBOX_URL", "POSTGRES_USER", "POSTGRES_PASSWORD"),
    ):
        if name in services:
            server = services[name]["environment"]
            assert f"//{server[user]}:{server[password]}@{name}:" in urls[variable]


def test_dev_finds_the_same_images_and_the_organisation(folder: Path) -> None:
    choice = chosen("billing-svc", folder)
    services = _compose(folder)["services"]
    servers = services.keys() - {"service", "prometheus", "grafana"}
    assert choice.images == {name: services[name]["image"] for name in servers}
    assert choice.organisation == "acme"


def test_every_file_it_mounts_is_there_and_every_volume_declared(folder: Path) -> None:
    compose = _compose(folder)
    sources = {source for service in compose["services"].values() for source in _mounts(service)}
    files = {source for source in sources if source.startswith("./")}
    assert {"./chart/files/rules.yaml", "./chart/files/dashboard.json"} <= files
    assert [source for source in files if not (folder / "deploy" / source).is_file()] == []
    assert sources - files == compose["volumes"].keys()
    build = compose["services"]["service"]["build"]
    assert (folder / "deploy" / build["context"] / build["dockerfile"]).is_file()


def test_nothing_is_reachable_from_another_machine_and_no_port_is_taken_twice(folder: Path) -> None:
    ports = [
        port
        for service in _compose(folder)["services"].values()
        for port in service.get("ports", ())
    ]
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)] == []
    assert len(set(ports)) == len(ports) >= 4


def test_an_image_is_named_by_its_registry_and_its_full_version(folder: Path) -> None:
    images = [
        service["image"] for service in _compose(folder)["services"].values() if "image" in service
    ]
    full = re.compile(r"docker\.io/[\w/]+:v?\d+(\.\d+)+(-[a-z-]+)?(@sha256:[0-9a-f]{64})?")
    assert [image for image in images if not full.fullmatch(image)] == []


def test_the_service_runs_in_it_as_in_a_cluster(rendered: Path) -> None:
    service = _compose(rendered)["services"]["service"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - in the container
    assert service["cap_drop"] == ["ALL"]


def test_the_service_has_as_long_to_stop_as_in_a_cluster(rendered: Path) -> None:
    service = _compose(rendered)["services"]["service"]
    drain = load(service["environment"]).drain_seconds
    helper = (rendered / "deploy/chart/templates/_pod.tpl").read_text("utf-8")
    (margin,) = re.findall(r"add \.Values\.drainSeconds (\d+)", helper)
    assert service["stop_grace_period"] == f"{drain + int(margin):g}s"


def test_prometheus_takes_its_configuration_with_the_rules(folder: Path, tmp_path: Path) -> None:
    services = _compose(folder)["services"]
    for source, target in _mounts(services["prometheus"]).items():
        if source.startswith("./"):
            shutil.copy(folder / "deploy" / source, tmp_path / Path(target).name)
    said = lab.run([find("promtool"), "check", "config", "prometheus.yml"], tmp_path)
    assert "SUCCESS: 1 rule files found" in said
    jobs = _loaded(tmp_path / "prometheus.yml")["scrape_configs"]
    assert jobs[0]["job_name"] == "billing-svc"
    hosts = {
        target.split(":")[0]
        for job in jobs
        for static in job["static_configs"]
        for target in static["targets"]
    }
    assert hosts <= services.keys()


def test_grafana_finds_prometheus_and_the_dashboard(rendered: Path) -> None:
    services = _compose(rendered)["services"]
    mounts = _mounts(services["grafana"])
    provisioned = {
        target: _loaded(rendered / "deploy" / source)
        for source, target in mounts.items()
        if "/provisioning/" in target
    }
    (source,) = provisioned["/etc/grafana/provisioning/datasources/dockyard.yaml"]["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == (
        "prometheus",
        "http://prometheus:9090",
        True,
    )
    (provider,) = provisioned["/etc/grafana/provisioning/dashboards/dockyard.yaml"]["providers"]
    (dashboard,) = [Path(target) for target in mounts.values() if target.endswith(".json")]
    assert os.fspath(dashboard.parent) == provider["options"]["path"]
    assert services["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ] == os.fspath(dashboard)
    (name,) = [name for name, target in mounts.items() if target == os.fspath(dashboard)]
    assert json.loads((rendered / "deploy" / name).read_text("utf-8"))["panels"]
