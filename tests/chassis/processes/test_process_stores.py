"""The promises of every store of processes, against real servers. An adapter is a row of LABS."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from acme.orders.v1.order_pb2 import (
    OrderPlaced,
    OrderShipped,
    OrderState,
    PaymentTaken,
    PaymentWanted,
    ShipmentRefused,
    ShipmentWanted,
)
from google.protobuf.message import Message

from chassis import ProcessContext, Service
from chassis.contracts.envelope import AMQP_PREFIX, EncodedEvent, to_headers
from chassis.contracts.event_types import event_type, message_class, to_event
from chassis.handling.consumer import Consumer
from chassis.inbox import Inbox, TransactionalInbox
from chassis.processes.store import (
    Address,
    Conflict,
    Pending,
    ProcessStore,
    Record,
    Wake,
    decoded,
    encoded,
)
from chassis.processes.wakeups import WakeUp, wakeup_type
from chassis.replica.assemble import consumer_of
from chassis.settings import load
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import NoTraces
from tests.chassis.pipeline import Bus, Delivered, delivered
from tests.chassis.processes.order_process import order_service
from tests.chassis.processes.store_labs import LABS, Lab, a_service
from tests.waiting import PATIENCE, eventually

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
ONE = Address("OrderState", "o-1")
RECORD = Record(
    ONE,
    instance="i-1",
    status="active",
    state_type="acme.orders.v1.OrderState",
    state=b"\x00\xff",
    started=NOW,
    changed=NOW + timedelta(minutes=1),
    last_event="acme.orders.v1.OrderPlaced",
    number=3,
    wakes={"late": Wake(3, NOW + timedelta(hours=1))},
    steps=("s-1",),
    outgoing=(Pending("s-1", to_event(OrderShipped(order_id="o-1"), source="orders-svc")),),
)
PLACED = OrderPlaced(order_id="o-1", amount=7)
WAKE_UP = "wake-up"
PAID = PaymentTaken(order_id="o-1")


@pytest.fixture(scope="module", params=list(LABS))
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with LABS[request.param](tmp_path_factory.mktemp(request.param)) as lab:
        yield lab


@pytest.fixture
def name() -> str:
    """A service of the test's own."""
    return a_service()


@pytest.fixture
async def store(lab: Lab, name: str) -> AsyncIterator[ProcessStore]:
    async with lab.opened(name) as (_, store):
        yield store


async def test_what_was_saved_is_loaded(store: ProcessStore) -> None:
    assert await store.load(ONE) is None
    await store.save(RECORD, 0)
    stored = await store.load(ONE)
    assert stored is not None
    assert decoded(stored.body) == RECORD


async def test_of_two_starts_at_once_one_is_refused(store: ProcessStore) -> None:
    results = await asyncio.gather(
        store.save(RECORD, 0), store.save(RECORD, 0), return_exceptions=True
    )
    assert [type(result) for result in results if result is not None] == [Conflict]


async def test_of_two_changes_of_one_revision_one_is_refused(store: ProcessStore) -> None:
    await store.save(RECORD, 0)
    stored = await store.load(ONE)
    assert stored is not None
    changes = [replace(RECORD, state=b"a"), replace(RECORD, state=b"b")]
    results = await asyncio.gather(
        *(store.save(change, stored.revision) for change in changes), return_exceptions=True
    )
    assert [type(result) for result in results if result is not None] == [Conflict]
    after = await store.load(ONE)
    assert after is not None
    assert decoded(after.body).state == changes[results.index(None)].state


async def test_what_is_over_is_forgotten_after_the_retention(lab: Lab, name: str) -> None:
    async with lab.opened(name, retention=1.0) as (_, store):
        await store.save(replace(RECORD, status="completed"), 0)
        await store.save(replace(RECORD, address=Address("OrderState", "o-2")), 0)
        async with asyncio.timeout(PATIENCE):
            while await store.load(ONE) is not None:
                await asyncio.sleep(0.05)
        assert [tally.status for tally in await store.tally()] == ["active"]
        await store.save(RECORD, 0)
        assert sum(tally.count for tally in await store.tally()) == 2


async def test_records_and_tally_are_those_of_the_service(lab: Lab, name: str) -> None:
    keys = [f"o-{number}" for number in range(5)]
    async with lab.opened(name) as (_, store), lab.opened(a_service()) as (_, other):
        for key in keys:
            await store.save(replace(RECORD, address=Address("OrderState", key)), 0)
        await other.save(RECORD, 0)
        found = [decoded(stored.body).address.key async for stored in store.records()]
        assert sorted(found) == keys
        (tally,) = await store.tally()
        assert (tally.process, tally.status, tally.count) == ("OrderState", "active", 5)
        assert tally.idle_since == NOW + timedelta(hours=1)


def test_a_record_is_read_as_it_was_written() -> None:
    assert decoded(encoded(RECORD)) == RECORD


class Replica:
    """A replica of `service` on its own connections; `bus` keeps what it published."""

    def __init__(self, service: Service, inbox: Inbox, store: ProcessStore) -> None:
        settings = load({}, max_attempts=2, backoff_seconds=0.0, pause_failure_ratio=0.0)
        self.name = service.name
        self.bus = Bus()
        self.metrics = Metrics(service.name, "1", "0")
        self.store = store
        self.inbox = inbox
        self.consumer: Consumer = consumer_of(
            service,
            settings,
            self.bus,
            inbox,
            metrics=self.metrics,
            traces=NoTraces(),
            processes=store,
        )

    async def take(self, delivery: Delivered) -> Delivered:
        await asyncio.wait_for(asyncio.create_task(self.consumer.on_delivery(delivery)), PATIENCE)
        return delivery

    async def until_settled(self, event: Message, id_: str) -> str:
        """The outcome after all retries that do not count."""
        for _ in range(1000):
            done = await self.take(delivered(event, id_))
            if not (done.outcome == "later" and done.counted is False):
                return done.outcome
            await asyncio.sleep(done.delay or 0)
        raise AssertionError("it never settled")

    async def until_woken(self, wakeup: EncodedEvent) -> str:
        """The outcome of a wake-up, once its time has come."""
        while True:
            done = await self.take(Delivered(to_headers(wakeup.envelope, AMQP_PREFIX), wakeup.body))
            if done.outcome != "later":
                return done.outcome
            await asyncio.sleep(done.delay or 0)

    async def state(self, key: str = "o-1") -> OrderState:
        stored = await self.store.load(Address("OrderState", key))
        assert stored is not None
        return OrderState.FromString(decoded(stored.body).state)

    async def published(self) -> list[str]:
        """Types of what was published, or waits in the outbox to be."""
        if isinstance(self.inbox, TransactionalInbox):

            async def take(events: Sequence[EncodedEvent]) -> list[None]:
                self.bus.published.extend(events)
                return [None for _ in events]

            while (await self.inbox.outbox(self.name).relay(100, take)).confirmed:
                pass
        own = wakeup_type(self.name)
        return [
            WAKE_UP if event.envelope.type == own else event.envelope.type.rpartition(".")[2]
            for event in self.bus.published
        ]

    def steps(self, outcome: str) -> float:
        labels = {"process": "OrderState", "outcome": outcome}
        return self.metrics.registry.get_sample_value("chassis_process_steps_total", labels) or 0.0


class Fleet:
    """Makes replicas of one service over one store."""

    def __init__(self, lab: Lab, name: str, stack: AsyncExitStack) -> None:
        self._lab, self.name, self._stack = lab, name, stack

    async def replica(self, service: Service) -> Replica:
        opened = await self._stack.enter_async_context(self._lab.opened(self.name))
        return Replica(service, *opened)


@pytest.fixture
async def fleet(lab: Lab, name: str) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(lab, name, stack)


async def test_events_move_a_process_from_start_to_completion(fleet: Fleet) -> None:
    one = await fleet.replica(order_service(fleet.name))
    for id_, event in enumerate((PLACED, PAID, OrderShipped(order_id="o-1"))):
        assert await one.until_settled(event, f"{id_}") == "done"
    assert (await one.state()).outcome == "shipped"
    assert await one.published() == ["PaymentWanted", WAKE_UP, "ShipmentWanted"]


async def test_a_late_copy_of_the_start_under_another_id_starts_nothing(fleet: Fleet) -> None:
    one = await fleet.replica(order_service(fleet.name))
    for id_, event in enumerate((PLACED, PAID, OrderShipped(order_id="o-1"), PLACED)):
        assert await one.until_settled(event, f"{id_}") == "done"
    assert (await one.state()).outcome == "shipped"
    assert one.steps("over") == 1
    assert one.steps("started") == 1


def adding(name: str) -> tuple[Service, asyncio.Event, list[str]]:
    """A process that waits at `gate` and then adds a note: two at once must both be in the end."""
    service, gate, at_work = Service(name, version="1"), asyncio.Event(), list[str]()
    orders = service.process(OrderState, by=lambda event: event.order_id)

    @orders.starts(OrderPlaced)
    @orders.on(OrderPlaced)
    async def add(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None:
        at_work.append(str(event.amount))
        await gate.wait()
        state.notes.append(str(event.amount))
        ctx.publish(PaymentWanted(amount=event.amount))

    return service, gate, at_work


async def test_two_events_at_once_in_two_replicas_lose_no_update(fleet: Fleet) -> None:
    service, gate, at_work = adding(fleet.name)
    replicas = [await fleet.replica(service) for _ in range(2)]
    assert await asyncio.wait_for(_opened(gate, replicas[0]), PATIENCE) == "done"
    gate.clear()
    tasks = [
        asyncio.create_task(
            replica.until_settled(OrderPlaced(order_id="o-1", amount=number), f"{number}")
        )
        for number, replica in enumerate(replicas, start=1)
    ]
    # A store with transactions lets the second one begin once the first has ended.
    begun = 2 if replicas[0].store.transactional else 3
    await eventually(lambda: len(at_work) >= begun)
    gate.set()
    assert await asyncio.gather(*tasks) == ["done", "done"]
    assert sorted((await replicas[0].state()).notes) == ["0", "1", "2"]
    published = [name for replica in replicas for name in await replica.published()]
    assert published == ["PaymentWanted"] * 3


async def _opened(gate: asyncio.Event, replica: Replica) -> str:
    gate.set()
    return await replica.until_settled(OrderPlaced(order_id="o-1"), "0")


async def test_events_of_one_process_in_one_replica_do_not_conflict(fleet: Fleet) -> None:
    service, gate, _ = adding(fleet.name)
    gate.set()
    one = await fleet.replica(service)
    events = [OrderPlaced(order_id="o-1", amount=number) for number in range(10)]
    outcomes = await asyncio.gather(
        *(one.until_settled(event, f"{event.amount}") for event in events)
    )
    assert set(outcomes) == {"done"}
    assert sorted(map(int, (await one.state()).notes)) == list(range(10))
    assert one.steps("conflict") == 0


async def test_a_wake_up_is_never_early_and_once_only(fleet: Fleet) -> None:
    service = Service(fleet.name, version="1")
    orders = service.process(OrderState, by=lambda event: event.order_id)

    @orders.starts(OrderPlaced)
    async def placed(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None:
        ctx.wake("soon", after=timedelta(seconds=1))

    @orders.wakes("soon")
    async def soon(state: OrderState, wake: WakeUp, ctx: ProcessContext) -> None:
        assert datetime.now(UTC) >= wake.due
        state.notes.append("woken")

    one, two = [await fleet.replica(service) for _ in range(2)]
    assert await one.until_settled(PLACED, "placed") == "done"
    assert await one.published() == [WAKE_UP]
    (wakeup,) = one.bus.published
    early = await two.take(Delivered(to_headers(wakeup.envelope, AMQP_PREFIX), wakeup.body))
    assert (early.outcome, early.counted) == ("later", False)
    assert early.delay is not None
    assert 0 < early.delay <= 1
    outcomes = [await replica.until_woken(wakeup) for replica in (one, two)]
    assert outcomes == ["done", "done"]
    assert list((await one.state()).notes) == ["woken"]


async def test_a_wake_up_far_ahead_shows_itself_every_hour(fleet: Fleet) -> None:
    """A stream drops what waits for longer than it keeps messages."""
    service = Service(fleet.name, version="1")
    orders = service.process(OrderState, by=lambda event: event.order_id)

    @orders.starts(OrderPlaced)
    async def placed(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None:
        ctx.wake("reminder", after=timedelta(days=30))

    @orders.wakes("reminder")
    async def remind(state: OrderState, wake: WakeUp, ctx: ProcessContext) -> None: ...

    one = await fleet.replica(service)
    assert await one.until_settled(PLACED, "placed") == "done"
    assert await one.published() == [WAKE_UP]
    (wakeup,) = one.bus.published
    early = await one.take(Delivered(to_headers(wakeup.envelope, AMQP_PREFIX), wakeup.body))
    assert (early.outcome, early.delay) == ("later", 3600)


async def test_a_state_over_its_limit_is_a_dead_letter_that_says_so(fleet: Fleet) -> None:
    service = Service(fleet.name, version="1")
    orders = service.process(OrderState, by=lambda event: event.order_id, max_bytes=100)

    @orders.starts(OrderPlaced)
    async def grow(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None:
        state.notes.append("x" * 100)

    one = await fleet.replica(service)
    dead = await one.take(delivered(PLACED, "e-1"))
    assert dead.buried.reason == "oversize"
    assert "has 102 bytes, at most 100 allowed (max_bytes=" in dead.buried.message
    assert await one.store.load(ONE) is None


async def test_a_record_that_cannot_be_read_stops_its_own_events_only(
    lab: Lab, name: str, fleet: Fleet
) -> None:
    one = await fleet.replica(order_service(fleet.name))
    for key in ("o-1", "o-2"):
        assert await one.until_settled(OrderPlaced(order_id=key), f"{key}") == "done"
    await lab.spoil(name, ONE)
    dead = await one.take(delivered(PAID, "spoilt"))
    assert dead.buried.reason == "bad_state"
    assert await one.until_settled(PaymentTaken(order_id="o-2"), "sound") == "done"
    assert [tally.count for tally in await one.store.tally()] in ([1], [2])


async def test_the_step_of_a_crashed_replica_is_published_under_the_same_ids(
    fleet: Fleet,
) -> None:
    """Saved, and gone before it has published: the event comes again."""
    one, two = [await fleet.replica(order_service(fleet.name)) for _ in range(2)]
    if one.store.transactional:
        pytest.skip("state and outgoing events commit together")
    id_ = "crash"
    one.bus.refusing = True
    crashing = asyncio.create_task(one.consumer.on_delivery(delivered(PLACED, id_)))
    await eventually(lambda: one.bus.tries > 0)
    crashing.cancel()
    await asyncio.gather(crashing, return_exceptions=True)
    assert await two.until_settled(PLACED, id_) == "done"
    event, wakeup = two.bus.published
    assert wakeup.envelope.type == wakeup_type(fleet.name)
    assert message_class(event.envelope.type).FromString(event.body) == PaymentWanted(
        order_id="o-1", amount=7
    )
    assert two.steps("repeated") == 1
    stored = await two.store.load(ONE)
    assert stored is not None
    assert decoded(stored.body).outgoing == ()


async def test_shuffled_and_repeated_events_complete_or_undo_every_order(fleet: Fleet) -> None:
    """Twenty orders, a third refused, three deliveries each in any order, over two replicas."""
    chance, orders = Random(20261130), [f"o-{number}" for number in range(20)]
    one, two = [await fleet.replica(order_service(fleet.name)) for _ in range(2)]

    def story(number: int, key: str) -> list[tuple[str, Message]]:
        end = (ShipmentRefused if number % 3 == 0 else OrderShipped)(order_id=key)
        events = (OrderPlaced(order_id=key, amount=5), PaymentTaken(order_id=key), end)
        return [(f"{key}-{event_type(event)}", event) for event in events]

    deliveries = [each for number, key in enumerate(orders) for each in story(number, key)] * 3
    chance.shuffle(deliveries)

    async def settle(id_: str, event: Message) -> None:
        while True:
            replica = chance.choice((one, two))
            outcome = await replica.until_settled(event, id_)
            if outcome == "done":
                return
            await asyncio.sleep(0)  # missing: tried again

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(settle(*each) for each in deliveries))
    ends = {key: (await one.state(key)).outcome for key in orders}
    undone = {key for number, key in enumerate(orders) if number % 3 == 0}
    assert {key for key, end in ends.items() if end == "undone"} == undone
    assert {key for key, end in ends.items() if end == "shipped"} == set(orders) - undone
    published = [*await one.published(), *(await two.published())]
    assert published.count("PaymentReturned") == len(undone)
    assert ShipmentWanted.__name__ in published
