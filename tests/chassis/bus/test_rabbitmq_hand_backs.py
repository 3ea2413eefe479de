"""However often an event is handed back, and in whichever way, it is not taken for poison."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Service
from chassis.bus import BusUnavailable, Delivery
from chassis.bus.rabbitmq import RabbitBus
from chassis.bus.rabbitmq import consumer as rabbit_consumer
from chassis.bus.rabbitmq.deliveries import Deliveries
from chassis.bus.rabbitmq.link import Link
from chassis.bus.rabbitmq.messages import Received
from chassis.bus.rabbitmq.topology import DELIVERY_LIMIT, delay_queue, shared_queue
from chassis.contracts.event_types import to_event
from chassis.handling import outage
from chassis.handling.appointments import NoTurn
from chassis.handling.endings import Ending
from chassis.handling.in_turn import InTurn
from chassis.inbox import InboxUnavailable, LeaseLost
from chassis.inbox.memory import MemoryInbox
from chassis.replica.assemble import consumer_of, metrics_of, subscribe
from chassis.settings import load
from chassis.telemetry.traces import NoTraces
from tests.brokers.rabbitmq import shared_rabbitmq
from tests.chassis.bus.test_bus_conformance import Replica, event, keep, letters, publisher
from tests.chassis.bus_labs import RabbitLab
from tests.waiting import PATIENCE_WITH_PROCESSES, eventually

TIMES = DELIVERY_LIMIT + 5
SETTINGS = load(
    {}, max_attempts=1, backoff_seconds=0.0, pause_failure_ratio=0.0, prefetch=4, lease_seconds=60
)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[RabbitLab]:
    node = await asyncio.to_thread(shared_rabbitmq)
    with node.vhost(tmp_path.name) as url:
        yield RabbitLab(url, node.server)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


ERRORS: dict[str, Exception] = {
    "the store is away": InboxUnavailable("away"),
    "the lease is lost": LeaseLost("key"),
    "the bus refuses": BusUnavailable("refused"),
}


class World:
    """A service over RabbitMQ whose handler raises `error` more often than the limit allows."""

    def __init__(self, lab: RabbitLab, error: Exception | None = None) -> None:
        self.calls: list[int] = []
        self.lab = lab
        self.service = Service("billing-svc", version="1")

        @self.service.on(UserSignedUp, ordered_by=lambda event: event.user_id)
        async def open_account(event: UserSignedUp, ctx: Context) -> None:
            self.calls.append(ctx.attempt)
            if error is not None and len(self.calls) <= TIMES:
                raise error

    async def handle_one(self, stack: AsyncExitStack, calls: int) -> None:
        """Publish an event; return when its handler was called so often."""
        bus, inbox = self.lab.bus("billing-svc"), MemoryInbox(0.001, 60)
        consumer = consumer_of(
            self.service, SETTINGS, bus, inbox, metrics=metrics_of(self.service), traces=NoTraces()
        )
        subscribe(self.service, bus, consumer, SETTINGS.prefetch)
        consumer.start()
        stack.push_async_callback(bus.close)
        stack.push_async_callback(consumer.drain, 0)
        await bus.start()
        await bus.wait_ready()
        body = UserSignedUp(user_id="ada")
        await (await publisher(self.lab, stack))(to_event(body, source="shop", id_="e-1"))
        await eventually(lambda: len(self.calls) == calls, PATIENCE_WITH_PROCESSES)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_a_handling_that_cannot_reach_its_end(
    lab: RabbitLab, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(outage, "_RELAPSE_MAX_SECONDS", 0.001)
    world = World(lab, error)
    await world.handle_one(stack, TIMES + 1)
    assert set(world.calls) == {1}
    assert await letters(lab, "billing-svc") == []


async def test_a_turn_that_does_not_come(
    lab: RabbitLab, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, sent_away = InTurn.make, Counter[str]()

    async def rarely(in_turn: InTurn, *args: Any) -> Ending:
        sent_away["times"] += 1
        if sent_away["times"] <= TIMES:
            raise NoTurn
        return await make(in_turn, *args)

    monkeypatch.setattr(InTurn, "make", rarely)
    world = World(lab)
    await world.handle_one(stack, 1)
    assert await letters(lab, "billing-svc") == []


async def test_a_shutdown_with_the_event_in_hand(lab: RabbitLab, stack: AsyncExitStack) -> None:
    async with Replica(lab):
        pass
    await (await publisher(lab, stack))(event(b"1"))
    for _ in range(TIMES):
        async with Replica(lab, settle=keep) as replica:
            await replica.until(1)
    async with Replica(lab) as replica:
        await replica.until(1)
    assert await letters(lab, "billing-svc") == []


async def test_a_long_wait_is_the_brokers_even_after_a_crash(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    """A delivery that stays unsettled for longer than the server's limit costs the channel."""

    waits = asyncio.Event()

    async def wait(delivery: Delivery) -> None:
        assert await delivery.later(3600, counted=False)
        waits.set()

    async with Replica(lab):
        pass
    await (await publisher(lab, stack))(event(b"1"))
    async with Replica(lab, settle=keep) as replica:
        await replica.until(1)
    async with Replica(lab, settle=wait) as replica:
        await asyncio.wait_for(waits.wait(), PATIENCE_WITH_PROCESSES)
        link = cast(RabbitBus, replica.bus)._link
        assert link is not None
        waiting = delay_queue(shared_queue("billing-svc"), 3600).name
        assert await link.length(waiting) == 1


async def test_a_pause_that_begins_while_the_event_is_on_its_way(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    link = cast(RabbitBus, replica.bus)._link
    assert link is not None
    (consumer,) = link._consumers
    consumer._taking = False
    arrived = Counter[str]()

    def counted(tag: int, received: Received) -> None:
        arrived["times"] += 1
        consumer._taking = arrived["times"] > TIMES
        consumer.take(tag, received)

    link._wire.watch(consumer._channel.number, Deliveries(counted).watch)
    await (await publisher(lab, stack))(event(b"1"))
    await replica.until(1)
    assert arrived["times"] == TIMES + 1
    assert await letters(lab, "billing-svc") == []


async def test_a_copy_that_the_server_does_not_take_at_once(
    lab: RabbitLab, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    move, tries = Link.move, Counter[str]()

    async def rarely(link: Link, *args: Any) -> None:
        tries["times"] += 1
        if tries["times"] <= TIMES:
            raise BusUnavailable("refused")
        await move(link, *args)

    async def hand_back(delivery: Delivery) -> None:
        if tries["times"] <= TIMES:
            await delivery.hand_back()
        else:
            delivery.done()

    monkeypatch.setattr(rabbit_consumer, "RENEW_SECONDS", 0.001)
    monkeypatch.setattr(Link, "move", rarely)
    replica = await stack.enter_async_context(Replica(lab, settle=hand_back))
    await (await publisher(lab, stack))(event(b"1"))
    await eventually(lambda: tries["times"] > TIMES)
    assert await letters(lab, "billing-svc") == []
    assert set(replica.bodies) == {b"1"}
