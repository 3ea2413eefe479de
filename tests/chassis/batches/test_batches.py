"""Handlers of batches: what gathers, how each event ends, and what interrupts a batch."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Batch, Context, Service
from chassis.batches.collector import Collector
from chassis.bus.memory import MemoryBus
from chassis.contracts.event_types import to_event
from chassis.handling.transactions import NoTransaction
from chassis.inbox.memory import MemoryInbox
from chassis.registration import RegistrationError
from chassis.replica.assemble import consumer_of, metrics_of, subscribe
from chassis.settings import SettingsError, load
from chassis.telemetry.traces import NoTraces
from chassis.testing import Harness
from tests.chassis.pipeline import Pipeline, delivered
from tests.clock import jumping
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("log_lines")

Handle = Callable[[Batch[UserSignedUp]], Awaitable[None]]


def storing(handle: Handle, **options: Any) -> Service:
    service = Service("billing-svc", version="1")

    @service.on_batch(UserSignedUp, **options)
    async def store(batch: Batch[UserSignedUp]) -> None:
        await handle(batch)

    return service


def users(*names: str) -> list[UserSignedUp]:
    return [UserSignedUp(user_id=name) for name in names]


async def test_events_come_together_in_order_and_each_publishes_under_its_own_id() -> None:
    got: list[list[str]] = []

    async def handle(batch: Batch[UserSignedUp]) -> None:
        got.append([event.user_id for event in batch.events])
        for item in batch:
            item.ctx.publish(AccountOpened(account_id=item.event.user_id))

    async with Harness(storing(handle, size=3)) as harness:
        assert await harness.send_all(*users("a", "b", "c", "d")) == ["done"] * 4
        assert got == [["a", "b", "c"], ["d"]]
        published = [event for event in harness.published if isinstance(event, AccountOpened)]
        assert {event.account_id for event in published} == {"a", "b", "c", "d"}


async def test_each_event_ends_as_the_handler_says() -> None:
    async def handle(batch: Batch[UserSignedUp]) -> None:
        for item in batch:
            if item.event.user_id == "nobody":
                item.reject("no such user")
            elif item.event.user_id == "later" and item.ctx.attempt == 1:
                item.retry_after(90)

    async with Harness(storing(handle)) as harness:
        outcomes = await harness.send_all(*users("a", "nobody", "later"))
        assert outcomes == ["done", "dead", "done"]
        assert harness.dead_letters[0].reason == "rejected"
        assert harness.dead_letters[0].message == "no such user"
        assert harness.delays == [90]


async def test_an_exception_fails_all_that_are_not_settled() -> None:
    async def handle(batch: Batch[UserSignedUp]) -> None:
        batch.items[0].done()
        raise OSError("the table is gone")

    async with Harness(storing(handle), max_attempts=1) as harness:
        assert await harness.send_all(*users("a", "b", "c")) == ["done", "dead", "dead"]
        assert {letter.message for letter in harness.dead_letters} == {"the table is gone"}


async def test_an_event_that_makes_the_handler_raise_takes_no_other_to_the_dead_letters() -> None:
    sizes: list[int] = []

    async def handle(batch: Batch[UserSignedUp]) -> None:
        sizes.append(len(batch))
        if any(event.user_id == "poison" for event in batch.events):
            raise ValueError("cannot be stored")

    async with Harness(storing(handle), max_attempts=3) as harness:
        outcomes = await harness.send_all(*users("a", "poison", "b"))
        assert outcomes == ["done", "dead", "done"]
    assert sorted(sizes) == [1, 1, 1, 1, 3]  # together, then alone


async def test_the_same_event_twice_is_in_one_batch_once() -> None:
    got: list[int] = []

    async def handle(batch: Batch[UserSignedUp]) -> None:
        got.append(len(batch))

    async with Harness(storing(handle)) as harness:
        assert await harness.send(UserSignedUp(), id="e-1") == "done"
        assert await harness.send(UserSignedUp(), id="e-1") == "duplicate"
    assert got == [1]


async def test_a_batch_has_the_resources_of_its_service() -> None:
    service = Service("billing-svc", lifespan=resources, version="1")
    got: list[str] = []

    @service.on_batch(UserSignedUp)
    async def store(batch: Batch[UserSignedUp, str]) -> None:
        got.append(batch.resources)

    async with Harness(service) as harness:
        assert await harness.send(UserSignedUp()) == "done"
    assert got == ["the search index"]


@asynccontextmanager
async def resources() -> AsyncIterator[str]:
    yield "the search index"


async def test_events_of_an_older_version_join_the_same_batch() -> None:
    service = Service("billing-svc", version="1")
    got: list[list[str]] = []

    @service.upcast(UserSignedUp, AccountOpened)
    def renamed(old: UserSignedUp) -> AccountOpened:
        return AccountOpened(account_id=old.user_id)

    @service.on_batch(AccountOpened)
    async def store(batch: Batch[AccountOpened]) -> None:
        got.append([event.account_id for event in batch.events])

    async with Harness(service) as harness:
        outcomes = await harness.send_all(UserSignedUp(user_id="a"), AccountOpened(account_id="b"))
        assert outcomes == ["done", "done"]
    assert got == [["a", "b"]]


def test_a_service_without_batches_does_not_import_them() -> None:
    program = (
        "import sys\n"
        "from acme.signup.v1.user_signed_up_pb2 import UserSignedUp\n"
        "from chassis import Service\n"
        "from chassis.replica.process import run\n"
        "print([name for name in sys.modules if name.startswith('chassis.batches')])\n"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


async def test_without_a_store_with_transactions_a_batch_has_none() -> None:
    async def handle(batch: Batch[UserSignedUp]) -> None:
        await batch.transaction()

    async with Harness(storing(handle)) as harness:
        with pytest.raises(NoTransaction):
            await harness.send(UserSignedUp())


async def waiting_for(service: Service, bus: MemoryBus, *names: str) -> Any:
    """`service` at work on `bus` with an event for each of `names`; gives its drain."""
    settings = load({}, pause_failure_ratio=0, max_attempts=1)
    inbox = MemoryInbox(60, 600, asyncio.get_running_loop().time)
    consumer = consumer_of(
        service, settings, bus, inbox, metrics=metrics_of(service), traces=NoTraces()
    )
    subscribe(service, bus, consumer, settings.prefetch)
    await bus.start()
    for number, event in enumerate(users(*names)):
        await bus.publish(to_event(event, source="shop", id_=f"e-{number}"))
    return consumer.drain


@jumping
async def test_a_batch_that_does_not_fill_begins_after_its_wait() -> None:
    begun: list[tuple[int, float]] = []

    async def handle(batch: Batch[UserSignedUp]) -> None:
        begun.append((len(batch), asyncio.get_running_loop().time()))

    bus = MemoryBus()
    drain = await waiting_for(storing(handle, size=10, wait=4), bus, "a", "b")
    await asyncio.sleep(60)
    assert begun == [(2, 4.0)]
    await drain(1)
    await bus.close()


@jumping
async def test_a_handler_that_takes_too_long_fails_all_of_its_batch() -> None:
    async def handle(batch: Batch[UserSignedUp]) -> None:
        batch.items[0].done()
        await asyncio.sleep(1000)

    bus = MemoryBus()
    drain = await waiting_for(storing(handle, timeout=7, size=3), bus, "a", "b", "c")
    await asyncio.sleep(60)
    letters = bus.broker.dead["billing-svc"].values()
    assert [letter.failure.message for letter in letters] == [
        "the handler took longer than 7 s (timeout= of the handler)"
    ] * 2
    await drain(1)
    await bus.close()


@jumping
async def test_a_drain_waits_for_nothing_further() -> None:
    got: list[float] = []

    async def handle(batch: Batch[UserSignedUp]) -> None:
        got.append(asyncio.get_running_loop().time())

    bus = MemoryBus()
    drain = await waiting_for(storing(handle, size=10, wait=20), bus, "a", "b")
    await asyncio.sleep(1)
    assert await drain(10) == 0
    assert got == [1.0]
    await bus.close()


async def test_a_lost_lease_interrupts_the_batch_and_costs_the_others_no_attempt() -> None:
    begun = asyncio.Event()

    async def handle(batch: Batch[UserSignedUp]) -> None:
        begun.set()
        await asyncio.Event().wait()

    collector = Collector(
        handle, "store", size=2, wait=60, timeout=60, named="", observe=lambda _: None
    )

    async def store(event: UserSignedUp, ctx: Context) -> None:
        await collector.join(event, ctx)

    line = Pipeline({UserSignedUp: [store]})
    lost, other = (delivered(UserSignedUp(), f"e-{number}") for number in range(2))
    tasks = [line.begin(delivery) for delivery in (lost, other)]
    await asyncio.wait_for(begun.wait(), PATIENCE)
    tasks[0].cancel()  # as the keeper of leases does
    await eventually(lambda: bool(other.outcomes))
    assert (other.outcome, other.counted) == ("later", False)
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 1}, "size=1 must be a whole number of at least 2"),
        ({"wait": 0}, "wait=0 must be a time above 0"),
        ({"attempts": 0}, "attempts=0 must be a whole number"),
    ],
)
def test_options_that_mean_nothing_are_refused_with_a_sentence(
    options: dict[str, Any], sentence: str
) -> None:
    async def handle(batch: Batch[UserSignedUp]) -> None: ...

    with pytest.raises(RegistrationError, match=re.escape(sentence)):
        storing(handle, **options)


def test_a_handler_of_batches_takes_the_batch_alone() -> None:
    service = Service("billing-svc")
    with pytest.raises(RegistrationError, match="must take one argument, the Batch"):

        @service.on_batch(UserSignedUp)  # type: ignore[arg-type]
        async def store(batch: Batch[UserSignedUp], ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 101}, "size=101 must not be above CHASSIS_PREFETCH=100"),
        ({"timeout": 50, "wait": 10}, "together be below CHASSIS_LEASE_SECONDS=60"),
    ],
)
async def test_a_batch_that_the_settings_do_not_allow_stops_the_start(
    options: dict[str, Any], sentence: str
) -> None:
    async def handle(batch: Batch[UserSignedUp]) -> None: ...

    with pytest.raises(SettingsError, match=sentence):
        await waiting_for(storing(handle, **options), MemoryBus())
