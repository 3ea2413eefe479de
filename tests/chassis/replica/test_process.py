"""A whole replica at work over memory: it starts, waits, drains and stops."""

import asyncio
import os
import signal
from collections.abc import Callable
from math import isnan

import aiohttp
import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Service
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.contracts.event_types import to_event
from chassis.inbox import InboxUnavailable
from chassis.inbox.memory import MemoryInbox
from chassis.replica.assemble import metrics_of
from chassis.replica.process import run
from chassis.settings import SettingsError, load
from tests.chassis.conftest import LogLines
from tests.waiting import PATIENCE, eventually

SETTINGS = load(
    {"CHASSIS_BUS_URL": "memory://", "CHASSIS_HTTP_HOST": "127.0.0.1", "CHASSIS_HTTP_PORT": "0"}
)


class Store(MemoryInbox):
    """A store that can be away from the start."""

    away = False
    asked = 0

    async def open(self) -> None:
        self.asked += 1
        if self.away:
            raise InboxUnavailable("the store is away")


class World:
    """The service's surroundings: a broker, a store, and a sender of signals and probes."""

    def __init__(self, log_lines: LogLines) -> None:
        self.broker = MemoryBroker()
        self.store = Store(60.0, 3600.0)
        self._log_lines = log_lines
        self._seen: list[dict[str, object]] = []

    def logged(self, event: str) -> list[dict[str, object]]:
        self._seen += self._log_lines()
        return [line for line in self._seen if line["event"] == event]

    async def publish(self, event: UserSignedUp, id_: str = "e-1") -> None:
        await MemoryBus(self.broker).publish(to_event(event, source="shop", id_=id_))

    async def get(self, path: str) -> tuple[int, dict[str, object]]:
        port = self.logged("starting")[0]["http_port"]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}") as response,
        ):
            return response.status, await response.json()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, log_lines: LogLines) -> World:
    world = World(log_lines)
    monkeypatch.setattr("chassis.adapters.open_bus", lambda *_: MemoryBus(world.broker))
    monkeypatch.setattr("chassis.adapters.open_inbox", lambda *_: world.store)
    monkeypatch.setattr("chassis.replica.process.STORE_RETRY_SECONDS", 0.001)
    return world


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def ended(running: asyncio.Task[None]) -> None:
    await asyncio.wait_for(running, PATIENCE)


async def test_a_service_handles_publishes_and_stops_at_a_signal(world: World) -> None:
    service = Service("billing-svc", version="1.2.3")
    got: list[UserSignedUp] = []

    @service.on(AccountOpened)
    async def note(event: AccountOpened, ctx: Context) -> None:
        got.append(UserSignedUp(user_id=event.account_id))

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        ctx.publish(AccountOpened(account_id=event.user_id))

    running = asyncio.create_task(run(service, SETTINGS))
    await eventually(lambda: bool(world.logged("ready")))
    assert await world.get("/readyz") == (200, {"status": "ok", "reasons": []})
    assert (await world.get("/version"))[1]["version"] == "1.2.3"
    await world.publish(UserSignedUp(user_id="u-1"))
    await eventually(lambda: bool(got))
    terminate()
    await ended(running)
    assert world.logged("stopped")


async def test_a_declared_transaction_without_its_store_stops_the_start(world: World) -> None:
    service = Service("billing-svc")

    @service.on(UserSignedUp, transaction=True)
    async def store_account(event: UserSignedUp, ctx: Context) -> None: ...

    with pytest.raises(SettingsError, match=r"handler store_account .* CHASSIS_INBOX_URL=postgres"):
        await run(service, SETTINGS)


async def test_a_fault_of_the_set_up_is_not_ready_is_told_once_and_loses_nothing(
    world: World,
) -> None:
    service = Service("billing-svc")

    @service.on(UserSignedUp)
    async def store_account(event: UserSignedUp, ctx: Context) -> None:
        await ctx.transaction()

    running = asyncio.create_task(run(service, SETTINGS))
    await eventually(lambda: bool(world.logged("ready")))
    for number in range(3):
        await world.publish(UserSignedUp(), f"e-{number}")
    fault = (
        "the set-up of the service is wrong; the consumer pauses until a restart, and its events "
        "stay at the broker"
    )
    await eventually(lambda: bool(world.logged(fault)))
    assert await world.get("/readyz") == (
        503,
        {"status": "unavailable", "reasons": ["setup"]},
    )
    terminate()
    await ended(running)
    [line] = world.logged(fault)
    assert (line["handler"], line["level"]) == ("store_account", "error")
    assert "set CHASSIS_INBOX_URL=postgresql://" in str(line["fault"])
    waiting = world.broker.queues["billing-svc"].items
    assert [item.history.attempt for item in waiting] == [1, 1, 1]


async def test_a_drain_is_not_ready_takes_nothing_and_finishes_what_is_in_flight(
    world: World,
) -> None:
    service = Service("billing-svc")
    started, go_on, done = asyncio.Event(), asyncio.Event(), []

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        started.set()
        await go_on.wait()
        done.append(ctx.event_id)

    running = asyncio.create_task(run(service, SETTINGS))
    await eventually(lambda: bool(world.logged("ready")))
    await world.publish(UserSignedUp(), "e-1")
    await started.wait()
    terminate()
    await eventually(lambda: bool(world.logged("stopping")))
    await world.publish(UserSignedUp(), "e-2")
    status, health = await world.get("/readyz")
    assert status == 503
    assert "draining" in health["reasons"]  # type: ignore[operator]
    go_on.set()
    await ended(running)
    assert done == ["e-1"]
    assert world.logged("drained")[0]["abandoned"] == 0
    assert len(world.broker.queues["billing-svc"].items) == 1  # e-2 waits for the next replica


async def test_a_service_waits_for_its_store_not_ready_and_says_so_once(world: World) -> None:
    world.store.away = True
    service = Service("billing-svc")

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None: ...

    running = asyncio.create_task(run(service, SETTINGS))
    await eventually(lambda: world.store.asked > 3)
    assert (await world.get("/readyz"))[1]["reasons"] == ["bus", "inbox"]
    assert len(world.logged("the inbox store is not reachable yet, waiting for it")) == 1
    world.store.away = False
    await eventually(lambda: bool(world.logged("ready")))
    assert (await world.get("/readyz"))[0] == 200
    terminate()
    await ended(running)


async def test_a_service_that_waits_for_its_store_can_be_stopped(world: World) -> None:
    world.store.away = True
    running = asyncio.create_task(run(Service("billing-svc"), SETTINGS))
    await eventually(lambda: world.store.asked > 1)
    terminate()
    await ended(running)
    assert world.logged("stopped")
    assert not world.logged("ready")


async def test_the_metrics_tell_broker_store_backlog_and_how_long_the_drain_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service("billing-svc")
    metrics = metrics_of(service)
    monkeypatch.setattr("chassis.replica.assemble.metrics_of", lambda _: metrics)

    def value(name: str) -> float:
        found = metrics.registry.get_sample_value(f"chassis_{name}")
        assert found is not None
        return found

    world.store.away = True
    running = asyncio.create_task(run(service, SETTINGS))
    await eventually(lambda: world.store.asked > 1)
    assert isnan(value("bus_connected")), "nobody has tried to connect"
    assert (value("inbox_reachable"), value("drain_seconds")) == (0, 0)
    world.store.away = False
    await eventually(lambda: value("backlog_messages") == 0)
    assert (value("bus_connected"), value("inbox_reachable")) == (1, 1)
    terminate()
    await ended(running)
    assert 0 < value("drain_seconds") < value("drain_deadline_seconds") == SETTINGS.drain_seconds


async def test_the_chassis_keeps_the_readiness_metric(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service("billing-svc")
    metrics = metrics_of(service)
    monkeypatch.setattr("chassis.replica.assemble.metrics_of", lambda _: metrics)
    ready: Callable[[], float | None] = lambda: metrics.registry.get_sample_value("chassis_ready")  # noqa: E731 - one line, used thrice
    running = asyncio.create_task(run(service, SETTINGS))
    await eventually(lambda: bool(world.logged("ready")))
    assert ready() == 1
    terminate()
    await ended(running)
    assert ready() == 0
