"""A policy of its own for each handler: on each broker, and against the service's settings."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Service
from chassis.bus import Bus, DeadLetter, Verdict
from chassis.bus.memory import MemoryBus
from chassis.contracts.event_types import to_event
from chassis.inbox.memory import MemoryInbox
from chassis.replica.assemble import consumer_of, metrics_of, subscribe
from chassis.settings import SettingsError, load
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import NoTraces
from tests.chassis.bus_labs import LABS, Lab
from tests.clock import jumping
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("log_lines")


@pytest.fixture(params=LABS)
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    async with LABS[request.param](tmp_path) as lab:
        yield lab


async def at_work(
    service: Service, bus: Bus, stack: AsyncExitStack, patience: float = PATIENCE
) -> Metrics:
    settings = load({}, max_attempts=2, backoff_seconds=0.01, pause_failure_ratio=0)
    metrics = metrics_of(service)
    consumer = consumer_of(
        service, settings, bus, MemoryInbox(60, 600), metrics=metrics, traces=NoTraces()
    )
    subscribe(service, bus, consumer, settings.prefetch)
    consumer.start()
    await bus.start()
    stack.push_async_callback(bus.close)
    stack.push_async_callback(consumer.drain, patience)
    await asyncio.wait_for(bus.wait_ready(), PATIENCE)
    return metrics


async def letters(bus: Bus) -> dict[str, int]:
    """The attempts of each dead letter, by its handler."""
    found: dict[str, int] = {}

    async def look(letter: DeadLetter) -> Verdict:
        found[letter.failure.handler] = letter.failure.attempts
        return Verdict.KEEP

    await bus.sweep("billing-svc", look)
    return found


async def test_each_handler_has_its_own_attempts_and_delays(lab: Lab) -> None:
    service = Service("billing-svc", version="1")
    tried: Counter[str] = Counter()

    @service.on(UserSignedUp, attempts=4, backoff=(0.001, timedelta(seconds=0.01)))
    async def persists(event: UserSignedUp, ctx: Context) -> None:
        tried["persists"] += 1
        raise OSError("no")

    @service.on(AccountOpened)
    async def follows(event: AccountOpened, ctx: Context) -> None:
        tried["follows"] += 1
        raise OSError("no")

    async with AsyncExitStack() as stack:
        bus = lab.bus("billing-svc")
        metrics = await at_work(service, bus, stack)
        for number, event in enumerate((UserSignedUp(), AccountOpened())):
            await bus.publish(to_event(event, source="shop", id_=f"e-{number}"))

        def dead() -> bool:
            count = metrics.registry.get_sample_value
            return count("chassis_dead_letters_total", {"reason": "attempts_exhausted"}) == 2

        await eventually(dead)
        assert await letters(bus) == {"persists": 4, "follows": 2}
    assert tried == {"persists": 4, "follows": 2}


async def test_events_that_meet_a_wrong_set_up_are_left_to_a_replica_with_a_right_one(
    lab: Lab,
) -> None:
    wrong, right = Service("billing-svc", version="1"), Service("billing-svc", version="2")
    stored: list[tuple[str, int]] = []

    @wrong.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        await ctx.transaction()

    @right.on(UserSignedUp)
    async def store(event: UserSignedUp, ctx: Context) -> None:
        stored.append((ctx.event_id, ctx.attempt))

    async with AsyncExitStack() as stack:
        bus = lab.bus("billing-svc")
        metrics = await at_work(wrong, bus, stack)
        for number in range(20):
            await bus.publish(to_event(UserSignedUp(), source="shop", id_=f"e-{number}"))

        def paused() -> bool:
            count = metrics.registry.get_sample_value
            return count("chassis_consumer_paused", {"reason": "setup"}) == 1

        await eventually(paused)
        await at_work(right, lab.bus("billing-svc"), stack)
        await eventually(lambda: len(stored) == 20)
        assert await letters(bus) == {}
    assert sorted(stored) == sorted((f"e-{number}", 1) for number in range(20))


@jumping
async def test_a_rate_spaces_one_handler_and_holds_up_no_other() -> None:
    service = Service("billing-svc", version="1")
    at: dict[str, list[float]] = {"slow": [], "quick": []}

    @service.on(UserSignedUp, rate="2/s")
    async def slow(event: UserSignedUp, ctx: Context) -> None:
        at["slow"].append(asyncio.get_running_loop().time())

    @service.on(AccountOpened)
    async def quick(event: AccountOpened, ctx: Context) -> None:
        at["quick"].append(asyncio.get_running_loop().time())

    async with AsyncExitStack() as stack:
        bus = MemoryBus()
        metrics = await at_work(service, bus, stack)
        for number in range(150):  # more than the prefetch
            await bus.publish(to_event(UserSignedUp(), source="shop", id_=f"e-{number}"))
        await bus.publish(to_event(AccountOpened(), source="shop", id_="last"))
        while len(at["slow"]) < 150:
            await asyncio.sleep(1)
        begun = at["slow"][0]
        assert at["quick"][0] - begun < 1
        gaps = [later - earlier for earlier, later in zip(at["slow"], at["slow"][1:], strict=False)]
        assert min(gaps) >= 0.5 - 1e-9
        assert at["slow"][-1] - begun < 150
        retried = metrics.registry.get_sample_value(
            "messaging_client_consumed_messages_total",
            {"type": "acme.signup.v1.UserSignedUp", "outcome": "retried"},
        )
        assert retried == 0


@jumping
async def test_a_handler_has_its_own_time() -> None:
    service = Service("billing-svc", version="1")
    ended: dict[str, float] = {}

    @service.on(UserSignedUp, timeout=5, attempts=1)
    async def hangs(event: UserSignedUp, ctx: Context) -> None:
        try:
            await asyncio.sleep(50)
        finally:
            ended["hangs"] = asyncio.get_running_loop().time()

    @service.on(AccountOpened, timeout=50, attempts=1)
    async def takes_long(event: AccountOpened, ctx: Context) -> None:
        await asyncio.sleep(40)
        ended["takes_long"] = asyncio.get_running_loop().time()

    async with AsyncExitStack() as stack:
        bus = MemoryBus()
        await at_work(service, bus, stack)
        begun = asyncio.get_running_loop().time()
        await bus.publish(to_event(UserSignedUp(), source="shop", id_="e-1"))
        await bus.publish(to_event(AccountOpened(), source="shop", id_="e-2"))
        while "takes_long" not in ended:
            await asyncio.sleep(1)
        assert {name: round(end - begun) for name, end in ended.items()} == {
            "hangs": 5,
            "takes_long": 40,
        }
        [letter] = bus.broker.dead["billing-svc"].values()
        assert "took longer than 5 s (timeout= of the handler)" in letter.failure.message


@pytest.mark.parametrize(
    ("options", "settings", "sentence"),
    [
        ({"timeout": 60}, {}, "timeout=60 s must be below CHASSIS_LEASE_SECONDS=60"),
        ({"backoff": 400}, {}, "backoff=400 s must not be above CHASSIS_BACKOFF_MAX_SECONDS=300"),
        (
            {"backoff": (1, 7200)},
            {"nats_max_age_seconds": 3600},
            "7200 s must be below CHASSIS_NATS_MAX_AGE_SECONDS=3600",
        ),
    ],
)
def test_a_policy_that_the_settings_do_not_allow_stops_the_start(
    options: dict[str, float], settings: dict[str, float], sentence: str
) -> None:
    service = Service("billing-svc", version="1")

    @service.on(UserSignedUp, **options)  # type: ignore[arg-type]
    async def open_account(event: UserSignedUp, ctx: Context) -> None: ...

    with pytest.raises(SettingsError, match=f"handler open_account: .*{sentence}"):
        consumer_of(
            service,
            load({}, **settings),
            MemoryBus(),
            MemoryInbox(60, 600),
            metrics=metrics_of(service),
            traces=NoTraces(),
        )


def test_metrics_say_what_holds_for_each_handler() -> None:
    service = Service("billing-svc", version="1")

    @service.on(UserSignedUp, attempts=3, rate="90/m")
    async def open_account(event: UserSignedUp, ctx: Context) -> None: ...

    metrics = metrics_of(service)
    inbox = MemoryInbox(60, 600)
    consumer_of(service, load({}), MemoryBus(), inbox, metrics=metrics, traces=NoTraces())
    [family] = [each for each in metrics.registry.collect() if each.name == "chassis_handler_limit"]
    assert {sample.labels["limit"]: sample.value for sample in family.samples} == {
        "timeout_seconds": 30,
        "attempts": 3,
        "backoff_seconds": 1,
        "backoff_max_seconds": 300,
        "rate_per_second": 1.5,
    }
    assert {sample.labels["handler"] for sample in family.samples} == {"open_account"}
