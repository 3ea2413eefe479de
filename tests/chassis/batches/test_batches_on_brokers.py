"""A handler of batches on each broker and each store: every event ends once, as it should."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Batch, Service
from chassis.bus import Bus, DeadLetter, Verdict
from chassis.bus.memory import MemoryBus
from chassis.contracts.event_types import to_event
from chassis.inbox import Inbox
from chassis.inbox.memory import MemoryInbox
from chassis.replica.assemble import consumer_of, metrics_of, subscribe
from chassis.settings import load
from chassis.telemetry.traces import NoTraces
from tests.chassis import inbox_labs
from tests.chassis.bus_labs import LABS, Lab
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("log_lines")

EVENTS = 40
POISON, REJECTED, RETRIED = "7", "11", "13"


@pytest.fixture(params=LABS)
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    async with LABS[request.param](tmp_path) as lab:
        yield lab


@pytest.fixture(params=inbox_labs.LABS)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[inbox_labs.Lab]:
    with inbox_labs.LABS[request.param](tmp_path) as lab:
        yield lab


class Books:
    """A handler of batches with one event of each kind, and what it has seen."""

    def __init__(self) -> None:
        self.stored: Counter[str] = Counter()
        self.sizes: list[int] = []
        self.service = Service("billing-svc", version="1")
        self.service.on_batch(UserSignedUp, size=8, wait=0.05, attempts=2, backoff=0.01)(self.store)

    async def store(self, batch: Batch[UserSignedUp]) -> None:
        self.sizes.append(len(batch))
        if POISON in [event.user_id for event in batch.events]:
            raise ValueError("cannot be stored")
        for item in batch:
            if item.event.user_id == REJECTED:
                item.reject("no such user")
            elif item.event.user_id == RETRIED and item.ctx.attempt == 1:
                item.retry_after(0.01)
            else:
                self.stored[item.event.user_id] += 1


async def every_event_ends_once(bus: Bus, inbox: Inbox) -> None:
    books = Books()
    settings = load({}, pause_failure_ratio=0, prefetch=32)
    metrics = metrics_of(books.service)
    consumer = consumer_of(books.service, settings, bus, inbox, metrics=metrics, traces=NoTraces())
    subscribe(books.service, bus, consumer, settings.prefetch)
    async with AsyncExitStack() as stack:
        await inbox.open()
        stack.push_async_callback(inbox.close)
        consumer.start()
        await bus.start()
        stack.push_async_callback(bus.close)
        stack.push_async_callback(consumer.drain, PATIENCE)
        await asyncio.wait_for(bus.wait_ready(), PATIENCE)
        await asyncio.gather(
            *(
                bus.publish(
                    to_event(UserSignedUp(user_id=str(number)), source="shop", id_=f"e-{number}")
                )
                for number in range(EVENTS)
            )
        )
        letters: dict[str, str] = {}

        async def look(letter: DeadLetter) -> Verdict:
            letters[UserSignedUp.FromString(letter.body).user_id] = letter.failure.reason
            return Verdict.KEEP

        def dead() -> float:
            count = metrics.registry.get_sample_value
            return sum(
                count("chassis_dead_letters_total", {"reason": reason}) or 0
                for reason in ("rejected", "attempts_exhausted")
            )

        await eventually(lambda: len(books.stored) == EVENTS - 2 and dead() == 2)
        await bus.sweep("billing-svc", look)
    assert letters == {POISON: "attempts_exhausted", REJECTED: "rejected"}
    assert set(books.stored.values()) == {1}
    assert max(books.sizes) > 1


async def test_on_each_broker_every_event_ends_once(lab: Lab) -> None:
    await every_event_ends_once(lab.bus("billing-svc"), MemoryInbox(60, 600))


async def test_on_each_store_every_event_ends_once(stores: inbox_labs.Lab) -> None:
    await every_event_ends_once(MemoryBus(), stores.inbox(60, 600))
