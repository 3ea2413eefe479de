"""Services with limited, ordered and every-replica handlers, on each broker and each store."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Reject, Service
from chassis.bus import Bus, DeadLetter, Verdict
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.contracts.event_types import to_event
from chassis.inbox import Inbox
from chassis.inbox.memory import MemoryInbox
from chassis.replica.assemble import consumer_of, metrics_of, subscribe
from chassis.settings import load
from chassis.telemetry.traces import NoTraces
from tests.chassis import inbox_labs
from tests.chassis.bus_labs import LABS, Lab
from tests.waiting import PATIENCE, eventually

KEYS = 4
EVENTS = 80


@pytest.fixture(params=LABS)
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    async with LABS[request.param](tmp_path) as lab:
        yield lab


@pytest.fixture(params=inbox_labs.LABS)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[inbox_labs.Lab]:
    with inbox_labs.LABS[request.param](tmp_path) as lab:
        yield lab


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


class Ledger:
    """What the handlers of all replicas did, and how many were at work on a key at a time."""

    def __init__(self) -> None:
        self.handled: dict[str, list[int]] = defaultdict(list)
        self.at_work: Counter[str] = Counter()
        self.together = 0
        self._chance = Random(7)
        self._failed: set[int] = set()

    @property
    def count(self) -> int:
        return sum(len(numbers) for numbers in self.handled.values())

    async def handle(self, key: str, number: int) -> None:
        self.at_work[key] += 1
        self.together = max(self.together, self.at_work[key])
        try:
            await asyncio.sleep(self._chance.uniform(0, 0.01))
            if number % 7 == 3 and number not in self._failed:
                self._failed.add(number)
                raise OSError("at the first attempt")
            self.handled[key].append(number)
        finally:
            self.at_work[key] -= 1


def ordered(ledger: Ledger) -> Service:
    service = Service("billing-svc", version="1")

    @service.on(UserSignedUp, ordered_by=lambda event: event.user_id)
    async def book(event: UserSignedUp, ctx: Context) -> None:
        await ledger.handle(event.user_id, int(event.email))

    return service


async def replica(
    service: Service, bus: Bus, inbox: Inbox, stack: AsyncExitStack, **settings: object
) -> Service:
    """`service` at work on `bus` until the end of the test."""
    given = load({}, backoff_seconds=0.02, pause_failure_ratio=0, **settings)
    metrics = metrics_of(service)
    consumer = consumer_of(service, given, bus, inbox, metrics=metrics, traces=NoTraces())
    subscribe(service, bus, consumer, given.prefetch)
    await inbox.open()
    consumer.start()
    await bus.start()

    async def stop() -> None:
        await consumer.drain(PATIENCE)
        await bus.close()
        await inbox.close()

    stack.push_async_callback(stop)
    await asyncio.wait_for(bus.wait_ready(), PATIENCE)
    return service


async def publishing(bus: Bus, stack: AsyncExitStack) -> Bus:
    await bus.start()
    stack.push_async_callback(bus.close)
    await asyncio.wait_for(bus.wait_ready(), PATIENCE)
    return bus


async def publish_all(bus: Bus) -> None:
    for number in range(EVENTS):
        event = UserSignedUp(user_id=f"u-{number % KEYS}", email=str(number))
        await bus.publish(to_event(event, source="shop", id_=f"e-{number}"))


async def test_one_replica_handles_each_key_in_the_order_published_failures_included(
    lab: Lab, stack: AsyncExitStack
) -> None:
    ledger = Ledger()
    publisher = await publishing(lab.bus("shop"), stack)
    await replica(
        ordered(ledger), lab.bus("billing-svc"), MemoryInbox(60.0, 3600.0), stack, prefetch=20
    )
    await publish_all(publisher)
    await eventually(lambda: ledger.count == EVENTS)
    assert {key: sorted(numbers) for key, numbers in ledger.handled.items()} == ledger.handled
    assert ledger.together == 1


async def test_two_replicas_handle_one_event_of_a_key_at_a_time(
    lab: Lab, stack: AsyncExitStack
) -> None:
    ledger, inbox = Ledger(), MemoryInbox(60.0, 3600.0)
    publisher = await publishing(lab.bus("shop"), stack)
    for _ in range(2):
        await replica(ordered(ledger), lab.bus("billing-svc"), inbox, stack, prefetch=20)
    await publish_all(publisher)
    await eventually(lambda: ledger.count == EVENTS)
    assert sorted(number for numbers in ledger.handled.values() for number in numbers) == list(
        range(EVENTS)
    )
    assert ledger.together == 1


async def test_every_store_keeps_two_replicas_from_the_same_key(
    stores: inbox_labs.Lab, stack: AsyncExitStack
) -> None:
    ledger, broker = Ledger(), MemoryBroker()
    for _ in range(2):
        await replica(
            ordered(ledger), MemoryBus(broker), stores.inbox(30.0, 60.0), stack, prefetch=20
        )
    await publish_all(MemoryBus(broker))
    await eventually(lambda: ledger.count == EVENTS)
    assert sorted(number for numbers in ledger.handled.values() for number in numbers) == list(
        range(EVENTS)
    )
    assert ledger.together == 1


async def test_a_limited_handler_does_not_keep_the_others_of_its_queue_from_working(
    lab: Lab, stack: AsyncExitStack
) -> None:
    service = Service("billing-svc", version="1")
    go_on, greeted = asyncio.Event(), asyncio.Event()
    opened: list[str] = []

    @service.on(UserSignedUp, concurrency=1)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        opened.append(ctx.event_id)
        if len(opened) > 1:
            await go_on.wait()
        else:
            await asyncio.sleep(0.6)  # so long that events without room are told to come back

    @service.on(AccountOpened)
    async def greet(event: AccountOpened, ctx: Context) -> None:
        greeted.set()

    publisher = await publishing(lab.bus("shop"), stack)
    await replica(service, lab.bus("billing-svc"), MemoryInbox(60.0, 3600.0), stack, prefetch=8)
    await publisher.publish(to_event(UserSignedUp(), source="shop", id_="e-0"))
    await eventually(lambda: len(opened) == 1)
    for number in range(1, 17):
        await publisher.publish(to_event(UserSignedUp(), source="shop", id_=f"e-{number}"))
    await publisher.publish(to_event(AccountOpened(), source="shop", id_="a-1"))
    await asyncio.wait_for(greeted.wait(), PATIENCE)
    assert len(opened) == 2
    go_on.set()
    await eventually(lambda: len(opened) == 17)
    assert len(set(opened)) == 17


def caching(seen: list[str], shared: list[str], raises: list[BaseException]) -> Service:
    service = Service("billing-svc", version="1")

    @service.on(UserSignedUp, delivery="every_replica")
    async def forget(event: UserSignedUp, ctx: Context) -> None:
        if raises:
            raise raises.pop(0)
        seen.append(f"{ctx.event_id} at attempt {ctx.attempt}")

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        shared.append(ctx.event_id)

    return service


async def test_every_replica_gets_an_event_and_one_of_them_what_they_share(
    lab: Lab, stack: AsyncExitStack
) -> None:
    one: list[str] = []
    two: list[str] = []
    shared: list[str] = []
    inbox = MemoryInbox(60.0, 3600.0)
    publisher = await publishing(lab.bus("shop"), stack)
    await replica(caching(one, shared, [OSError("at first")]), lab.bus("billing-svc"), inbox, stack)
    await replica(caching(two, shared, []), lab.bus("billing-svc"), inbox, stack)
    await publisher.publish(to_event(UserSignedUp(), source="shop", id_="e-0"))
    await eventually(lambda: bool(one and two and shared))
    assert (one, two, shared) == (["e-0 at attempt 2"], ["e-0 at attempt 1"], ["e-0"])


async def test_what_one_replica_gives_up_is_no_dead_letter(lab: Lab, stack: AsyncExitStack) -> None:
    one: list[str] = []
    two: list[str] = []
    shared: list[str] = []
    inbox = MemoryInbox(60.0, 3600.0)
    publisher = await publishing(lab.bus("shop"), stack)
    await replica(caching(one, shared, [Reject("never")]), lab.bus("billing-svc"), inbox, stack)
    await replica(caching(two, shared, []), lab.bus("billing-svc"), inbox, stack)
    for number in range(2):
        await publisher.publish(to_event(UserSignedUp(), source="shop", id_=f"e-{number}"))
    await eventually(lambda: (len(one), len(two), len(shared)) == (1, 2, 2))
    letters: list[DeadLetter] = []

    async def keep(letter: DeadLetter) -> Verdict:
        letters.append(letter)
        return Verdict.KEEP

    await publisher.sweep("billing-svc", keep)
    assert letters == []
