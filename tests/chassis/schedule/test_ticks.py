"""Ticks: once in a fleet of replicas, late rather than lost, and handled like any event."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chassis import Context, Service, Tick
from chassis.bus import BusUnavailable
from chassis.bus.memory import MemoryBus
from chassis.contracts.envelope import EncodedEvent
from chassis.inbox.memory import MemoryInbox
from chassis.publishing.publisher import Publisher
from chassis.registration import RegistrationError
from chassis.replica import assemble
from chassis.schedule.due import every
from chassis.schedule.ticker import Ticker
from chassis.schedule.ticks import Schedule
from chassis.settings import SettingsError, load
from chassis.telemetry.traces import NoTraces
from chassis.testing import Harness
from tests.chassis.bus_labs import LABS
from tests.clock import jumping
from tests.waiting import PATIENCE

START = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)


class Published(MemoryBus):
    """A bus that keeps what is published, and is away until `back` (the loop's time)."""

    def __init__(self, back: float = 0.0) -> None:
        super().__init__()
        self.back = back
        self.got: list[tuple[str, float]] = []

    async def publish(self, message: EncodedEvent) -> None:
        now = asyncio.get_running_loop().time()
        if now < self.back:
            raise BusUnavailable("away")
        self.got.append((message.envelope.id, now))


def ticker(bus: MemoryBus, period: str = "1m", missed: float = 600) -> Ticker:
    """A ticker whose wall clock is START when the loop's clock is 0."""

    async def handle(tick: Tick, ctx: Context) -> None: ...

    loop = asyncio.get_running_loop()
    metrics = assemble.metrics_of(Service("billing-svc", version="1"))
    return Ticker(
        "billing-svc",
        [Schedule("report", every(period), handle, missed)],
        Publisher(bus, metrics, NoTraces(), 1000),
        now=lambda: START + timedelta(seconds=loop.time()),
    )


async def run(ticker: Ticker, seconds: float) -> None:
    task = asyncio.create_task(ticker.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])


def due(minute: int) -> str:
    return f"2026-03-10T12:{minute:02}:00.000000Z"


@jumping
async def test_a_tick_is_published_at_its_time_and_the_last_one_at_the_start() -> None:
    bus = Published()
    await run(ticker(bus), 150)
    assert bus.got == [(due(0), 0), (due(1), 30), (due(2), 90), (due(3), 150)]


@jumping
async def test_a_tick_that_is_too_old_at_the_start_is_left_out() -> None:
    bus = Published()
    await run(ticker(bus, missed=20), 31)
    assert bus.got == [(due(1), 30)]


@jumping
async def test_after_an_outage_the_latest_tick_alone_is_made_up_for() -> None:
    bus = Published(back=200)
    await run(ticker(bus), 215)
    assert [id_ for id_, _ in bus.got] == [due(3), due(4)]
    assert 200 <= bus.got[0][1] < 201


@jumping
async def test_a_tick_is_given_up_when_it_is_too_old() -> None:
    bus = Published(back=1000)
    await run(ticker(bus, "1h", missed=60), 3575)
    assert [id_ for id_, _ in bus.got] == ["2026-03-10T13:00:00.000000Z"]


def service_with(ticks: list[datetime]) -> Service:
    service = Service("billing-svc", version="1")

    @service.every("15m")
    async def report(tick: Tick, ctx: Context) -> None:
        ticks.append(tick.due)

    return service


async def test_the_harness_advances_through_ticks_in_order() -> None:
    ticks: list[datetime] = []
    service = service_with(ticks)
    nights: list[datetime] = []

    @service.cron("0 3 * * *", tz="Europe/Berlin")
    async def nightly(tick: Tick, ctx: Context) -> None:
        nights.append(tick.due)

    async with Harness(service, now=START) as harness:
        await harness.advance(timedelta(days=1))
    assert len(ticks) == 96
    assert ticks == sorted(set(ticks))
    assert nights == [datetime(2026, 3, 11, 2, 0, tzinfo=UTC)]


async def test_a_tick_that_fails_is_tried_again_and_ends_in_the_dead_letters() -> None:
    service = Service("billing-svc", version="1")
    attempts: list[int] = []

    @service.every("1h")
    async def report(tick: Tick, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise ValueError("no")

    async with Harness(service, now=START, max_attempts=3) as harness:
        await harness.advance(timedelta(hours=1))
    assert attempts == [1, 2, 3]
    assert [letter.reason for letter in harness.dead_letters] == ["attempts_exhausted"]


async def test_other_services_and_load_know_nothing_of_ticks() -> None:
    assert service_with([]).registry.types == frozenset()


@pytest.mark.parametrize("name", [name for name in LABS if name != "memory"])
async def test_three_replicas_handle_each_tick_once(name: str, tmp_path: Path) -> None:
    """Real broker, one inbox: each replica publishes every tick, and one handles it."""
    ticks: list[datetime] = []
    service = Service("billing-svc", version="1")

    @service.every("1s")
    async def report(tick: Tick, ctx: Context) -> None:
        ticks.append(tick.due)

    inbox = MemoryInbox(30, 60)
    settings = load({}, bus_url="memory://")
    async with LABS[name](tmp_path) as lab:
        buses, tasks = [], []
        for number in range(3):
            bus = lab.bus(f"replica-{number}")
            metrics = assemble.metrics_of(service)
            consumer = assemble.consumer_of(
                service, settings, bus, inbox, metrics=metrics, traces=NoTraces()
            )
            consumer.start()
            assemble.subscribe(service, bus, consumer, 10)
            await bus.start()
            await bus.wait_ready()
            publisher = Publisher(bus, metrics, NoTraces(), 1000)
            schedules = list(service.registry.schedules.values())
            tasks.append(asyncio.create_task(Ticker("billing-svc", schedules, publisher).run()))
            buses.append((bus, consumer))
        async with asyncio.timeout(PATIENCE):
            while len(ticks) < 4:
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        for bus, consumer in buses:
            await consumer.drain(5)
            await bus.close()
    assert len(ticks) == len(set(ticks))


def test_what_is_no_schedule_is_refused_at_registration() -> None:
    service = Service("billing-svc", version="1")

    async def handle(tick: Tick, ctx: Context) -> None: ...

    for wrong in ("5", "0s"):
        with pytest.raises(RegistrationError, match="schedule handle"):
            service.every(wrong)(handle)
    with pytest.raises(RegistrationError, match="cron expression"):
        service.cron("x")(handle)
    with pytest.raises(RegistrationError, match="missed"):
        service.every("1m", missed=0)(handle)
    with pytest.raises(RegistrationError, match="async def"):
        service.every("1m")(lambda tick, ctx: None)  # type: ignore[arg-type, return-value] # noqa: ARG005
    service.every("1m")(handle)
    with pytest.raises(RegistrationError, match="already"):
        service.every("2m")(handle)


def test_a_tick_that_the_inbox_may_have_forgotten_is_not_made_up_for() -> None:
    service = Service("billing-svc", version="1")

    @service.every("1d", missed=timedelta(days=30))
    async def report(tick: Tick, ctx: Context) -> None: ...

    with pytest.raises(SettingsError, match="CHASSIS_RETENTION_SECONDS"):
        assemble.parts(service, load({}, bus_url="memory://", inbox_url="memory://"))
