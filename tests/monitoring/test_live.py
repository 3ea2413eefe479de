"""Real service, broker, store and Prometheus: every panel has data, and alerts fire for faults.

Prometheus scrapes every second, and all times of the rules are a twentieth of a cluster's. The
rules are unchanged otherwise. Six alerts have their unit tests alone: ErrorBudgetBurnSlow takes
too long, OutboxTooOld needs a service on PostgreSQL, ProcessStuck one with a process,
LeaderMissing one with a leader, HttpErrors one with an HTTP app, ScalerAtMaximum a cluster.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.brokers.nats import Nats, nats
from tests.brokers.prometheus import Prometheus, prometheus
from tests.brokers.rabbitmq import shared_rabbitmq
from tests.e2e.publishers import Publisher, bare_publisher, publish_all, signed_up
from tests.e2e.rendering import render_service
from tests.e2e.replicas import Replica
from tests.once import made_once
from tests.waiting import until

PATIENCE = 120.0  # seconds until a test gives up; never a measure of speed
SHORTER = 20
FLEET = Path(__file__).parents[2] / "platform/chart/files/dashboards/fleet.json"
NOT_HERE = ("chassis_outbox_", "chassis_process", "chassis_lead", "http_server_")
"""Series of a service on PostgreSQL, with processes, with a leader, with an HTTP app."""
UNITS = {"m": 60, "h": 3600, "d": 86400}

HANDLERS = '''"""The handler under test: the event says how it fails."""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

from acme.billing.v1.signup_handled_pb2 import SignupHandled
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from chassis import Context, Reject, Service
from chassis.calls import cached

service = Service("billing-svc")
done = Path(os.environ.get("TEST_DONE", "."))


@cached()
async def country(email: str) -> str:
    return email[:2]


@service.on(UserSignedUp)
async def handle_signup(event: UserSignedUp, ctx: Context) -> None:
    await country(event.email)
    if event.email == "reject":
        raise Reject("as asked for")
    if event.email == "fail":
        raise ValueError("as asked for")
    if event.email == "block" and not (done / "block").exists():
        (done / "block").touch()
        time.sleep(5)  # longer than the lease
    if event.email == "stay":
        (done / "stay").touch()
        enough = time.monotonic() + 6
        while time.monotonic() < enough:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.1)
    ctx.publish(SignupHandled(user_id=event.user_id))
'''


@pytest.fixture(scope="session")
def service(template: Path, run_folder: Path) -> Path:
    """Never written to by a test."""
    folder = made_once(run_folder / "live", lambda it: render_service(template, it, HANDLERS))
    return folder / "billing-svc"


@dataclass(frozen=True, slots=True)
class World:
    replica: Replica
    bus_url: str
    store: Nats
    prometheus: Prometheus
    done: Path
    """The folder of marks that handlers leave: `block`, `stay`."""

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[Publisher]:
        """Events all the time; of nine, two fail for good and one is rejected."""
        async with bare_publisher(self.bus_url) as publisher:
            task = asyncio.create_task(_publish_for_ever(publisher))
            try:
                yield publisher
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def crash(self) -> None:
        """Kill the replica and start it again; return when Prometheus has seen the new process."""
        before = self.prometheus.values("process_start_time_seconds")
        await asyncio.to_thread(self.replica.server.kill)
        await asyncio.to_thread(self.replica.server.start)
        await asyncio.to_thread(
            until,
            lambda: self.prometheus.values("process_start_time_seconds") not in ([], before),
            lambda: "the new process being scraped",
            PATIENCE,
        )

    async def crashes_until_fires(self, name: str) -> None:
        """Crash until this alert fires: the speed of a replica's start does not matter."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE
        while name not in await asyncio.to_thread(self.prometheus.firing):
            assert clock() < deadline, (
                f"the alert {name} did not fire within {PATIENCE:g} s of crashes"
            )
            await self.crash()

    async def fires(self, *names: str) -> None:
        """Return once all of these have fired, not necessarily at the same time."""
        missing = set(names)

        def seen() -> bool:
            missing.difference_update(self.prometheus.firing())
            return not missing

        await asyncio.to_thread(
            until, seen, lambda: f"the alerts {sorted(missing)} firing", PATIENCE
        )


async def _publish_for_ever(publisher: Publisher) -> None:
    number = 0
    while True:
        for email in ("good", "good", "fail", "good", "good", "fail", "good", "good", "reject"):
            number += 1
            await publisher.publish(f"e-{number}", signed_up("u-1", email))
        await asyncio.sleep(0.3)  # the pace, not a wait for anything


def shortened(rules: str) -> str:
    """The rules with all their times divided by SHORTER."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found["number"]) * UNITS[found["unit"]] // SHORTER
        return f"{found['before']}{seconds}s{found['after']}"

    return re.sub(
        r"(?P<before>\[|offset |for: |interval: )(?P<number>\d+)(?P<unit>[mhd])"
        r"(?P<after>:?\]|\)|\s)",
        shorter,
        rules,
    )


@pytest.fixture
def world(request: pytest.FixtureRequest, service: Path, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        store = stack.enter_context(nats(tmp_path / "nats"))
        on_nats = request.param == "nats"
        bus_url = (
            store.url
            if on_nats
            else stack.enter_context(shared_rabbitmq().vhost(request.node.name))
        )
        settings = {
            "BUS_URL": bus_url,
            "INBOX_URL": store.url,
            "MAX_ATTEMPTS": "2",
            "BACKOFF_SECONDS": "0.1",
            "LEASE_SECONDS": "3",
            "HANDLER_TIMEOUT_SECONDS": "2.9",
            "DRAIN_SECONDS": "2",
        }
        done = tmp_path / "done"
        done.mkdir()
        env = {f"CHASSIS_{name}": value for name, value in settings.items()} | {
            "TEST_DONE": str(done)
        }
        replica = Replica(service, env, tmp_path / "replica.log")
        replica.server.start()
        stack.callback(replica.server.kill)
        rules = shortened((service / "deploy/chart/files/rules.yaml").read_text("utf-8"))
        folder = tmp_path / "prometheus"
        folder.mkdir()
        watching = stack.enter_context(
            prometheus(folder, job="billing-svc", target=replica.http_port, rules=rules)
        )
        yield World(replica, bus_url, store, watching, done)


@pytest.mark.parametrize("world", ["rabbitmq", "nats"], indirect=True)
async def test_every_query_of_the_dashboard_and_of_the_fleets_has_data(world: World) -> None:
    files = (world.replica.folder / "deploy/chart/files/dashboard.json", FLEET)
    queries = {
        target["expr"]
        .replace("$__rate_interval", "10s")
        .replace('"$job"', '".+"')
        .replace('"$instance"', '".+"')
        .replace('"$namespace"', '".*"')
        for file in files
        for panel in json.loads(file.read_text("utf-8"))["panels"]
        for target in panel.get("targets", ())
        if not any(name in target["expr"] for name in NOT_HERE)
    }
    assert len(queries) > 30
    missing = set(queries)

    def answered() -> bool:
        missing.difference_update([query for query in missing if world.prometheus.values(query)])
        return not missing

    async with world.under_load():
        await asyncio.to_thread(
            until, answered, lambda: "\n".join(["data for", *sorted(missing)]), PATIENCE
        )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("world", ["rabbitmq"], indirect=True)
async def test_alerts_fire_for_what_they_are_about_and_for_nothing_before(world: World) -> None:
    node = shared_rabbitmq()
    await asyncio.to_thread(
        until,
        lambda: world.prometheus.values("chassis_ready") == [1.0],
        lambda: "the service being ready",
        PATIENCE,
    )
    assert world.prometheus.firing() == {}

    async with world.under_load() as publisher:
        await world.fires(
            "DeadLettersArriving", "RetriesClimbing", "EventsTooOld", "ErrorBudgetBurnFast"
        )
        await publisher.publish("block", signed_up("u-1", "block"))
        await world.fires("LeasesLost")

    await asyncio.to_thread(world.store.server.stop)
    async with bare_publisher(world.bus_url) as publisher:
        await publish_all(
            publisher, [(f"waiting-{number}", signed_up("u-1")) for number in range(20)]
        )
    await world.fires("StoreUnreachable", "ConsumerStalled", "NotReady", "NoReplicaReady")
    await asyncio.to_thread(world.store.server.start)
    await asyncio.to_thread(until, world.replica.ready, lambda: "the service coming back", PATIENCE)

    await world.crashes_until_fires("CrashLoop")

    async with bare_publisher(world.bus_url) as publisher:
        await publisher.publish("stay", signed_up("u-1", "stay"))
    await asyncio.to_thread(
        until, (world.done / "stay").exists, lambda: "the handler that stays being called", PATIENCE
    )
    assert await asyncio.to_thread(world.replica.terminate) == 0
    await world.fires("DrainOverrun")

    await world.crash()
    path = f"/api/vhosts/{world.bus_url.rpartition('/')[2]}"
    node.call("DELETE", path)
    try:
        await world.fires("BrokerUnreachable")
    finally:
        node.call("PUT", path)  # the fixture that made it deletes it
