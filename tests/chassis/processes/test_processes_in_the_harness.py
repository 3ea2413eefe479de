"""Processes as a team's own tests see them."""

from datetime import UTC, datetime, timedelta

import pytest
from acme.orders.v1.order_pb2 import (
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    OrderState,
    PaymentReturned,
    PaymentTaken,
    PaymentWanted,
    ShipmentRefused,
    ShipmentWanted,
)

from chassis import ProcessContext, Service
from chassis.processes.definition import Missing
from chassis.processes.wakeups import WakeUp
from chassis.testing import Harness
from tests.brokers.process import Server
from tests.chassis.processes.order_process import PAYMENT_TIME, order_service

PLACED = OrderPlaced(order_id="o-1", amount=7)
PAID = PaymentTaken(order_id="o-1")


async def test_a_refused_order_is_undone() -> None:
    service = order_service()
    orders = service.registry.processes["OrderState"]
    async with Harness(service) as harness:
        assert await harness.send(PLACED) == "done"
        assert await harness.send(PAID) == "done"
        assert await harness.send(ShipmentRefused(order_id="o-1", why="sold out")) == "done"
        state = await harness.state(orders, "o-1")
    assert state == OrderState(order_id="o-1", amount=7, paid=True, outcome="undone")
    assert harness.published == [
        PaymentWanted(order_id="o-1", amount=7),
        ShipmentWanted(order_id="o-1"),
        PaymentReturned(order_id="o-1", amount=7),
    ]


async def test_with_a_database_steps_are_transactions(postgres: tuple[str, Server]) -> None:
    service = order_service()
    async with Harness(service, database=postgres[0]) as harness:
        for event in (PLACED, PAID, OrderShipped(order_id="o-1")):
            assert await harness.send(event) == "done"
        state = await harness.state(service.registry.processes["OrderState"], "o-1")
    assert state is not None
    assert state.outcome == "shipped"


async def test_events_after_the_end_do_nothing() -> None:
    service = order_service()
    async with Harness(service) as harness:
        for event in (PLACED, PAID, OrderShipped(order_id="o-1")):
            assert await harness.send(event) == "done"
        published = list(harness.published)
        assert await harness.send(ShipmentRefused(order_id="o-1")) == "done"
        assert harness.published == published


async def test_an_event_before_the_start_is_tried_again_and_then_says_so() -> None:
    async with Harness(order_service(), max_attempts=3) as harness:
        outcome = await harness.send(PAID)
    assert outcome == "dead"
    assert outcome.failure is not None
    assert outcome.failure.reason == "no_such_process"
    assert "has not started for the key of this acme.orders.v1.PaymentTaken" in str(
        outcome.failure.message
    )
    assert len(harness.delays) == 2


@pytest.mark.parametrize(("missing", "outcome"), [("ignore", "done"), ("dead", "dead")])
async def test_an_event_before_the_start_may_be_ignored_or_dead_at_once(
    missing: Missing, outcome: str
) -> None:
    service = Service("orders-svc", version="1")
    orders = service.process(OrderState, by=lambda event: event.order_id)

    @orders.on(PaymentTaken, missing=missing)
    async def paid(state: OrderState, event: PaymentTaken, ctx: ProcessContext) -> None:
        raise AssertionError("there is no process")

    async with Harness(service) as harness:
        assert await harness.send(PAID) == outcome
        assert harness.delays == []


async def test_an_event_without_a_key_is_a_dead_letter() -> None:
    async with Harness(order_service()) as harness:
        outcome = await harness.send(OrderPlaced())
    assert outcome.failure is not None
    assert outcome.failure.reason == "bad_key"


async def test_a_failed_step_leaves_the_state_as_it_was() -> None:
    service = Service("orders-svc", version="1")
    orders = service.process(OrderState, by=lambda event: event.order_id)

    @orders.starts(OrderPlaced)
    async def placed(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None:
        state.amount += event.amount

    @orders.on(PaymentTaken)
    async def paid(state: OrderState, event: PaymentTaken, ctx: ProcessContext) -> None:
        state.amount += 100
        ctx.publish(ShipmentWanted())
        if ctx.attempt == 1:
            raise OSError("the shop is away")

    async with Harness(service) as harness:
        await harness.send(PLACED)
        assert await harness.send(PAID) == "done"
        state = await harness.state(orders, "o-1")
        assert harness.published == [ShipmentWanted()]
    assert state is not None
    assert state.amount == 107


async def test_an_order_that_is_not_paid_in_time_is_cancelled() -> None:
    service = order_service()
    async with Harness(service) as harness:
        await harness.send(PLACED)
        await harness.advance(PAYMENT_TIME - timedelta(seconds=1))
        assert OrderCancelled(order_id="o-1") not in harness.published
        await harness.advance(timedelta(seconds=1))
        assert harness.published[-1] == OrderCancelled(order_id="o-1")
        state = await harness.state(service.registry.processes["OrderState"], "o-1")
    assert state is not None
    assert state.outcome == "cancelled"


async def test_a_wake_up_after_the_end_does_nothing() -> None:
    async with Harness(order_service()) as harness:
        for event in (PLACED, PAID, OrderShipped(order_id="o-1")):
            await harness.send(event)
        published = list(harness.published)
        await harness.advance(2 * PAYMENT_TIME)
        assert harness.published == published
        assert harness.dead_letters == []


def waking(*, at: datetime | None = None) -> Service:
    """A process that each event wakes anew after an hour, and that notes when it is woken."""
    service = Service("orders-svc", version="1")
    orders = service.process(OrderState, by=lambda event: event.order_id)

    @orders.starts(OrderPlaced)
    @orders.on(OrderPlaced)
    async def placed(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None:
        ctx.wake("later", after=None if at else timedelta(hours=1), at=at)

    @orders.wakes("later")
    async def later(state: OrderState, wake: WakeUp, ctx: ProcessContext) -> None:
        state.notes.append(wake.due.isoformat())

    return service


async def test_a_later_wish_takes_the_place_of_an_earlier_one_of_its_name() -> None:
    service = waking()
    async with Harness(service) as harness:
        await harness.send(PLACED)
        await harness.advance(timedelta(minutes=30))
        await harness.send(PLACED)
        await harness.advance(timedelta(hours=3))
        state = await harness.state(service.registry.processes["OrderState"], "o-1")
    assert state is not None
    assert len(state.notes) == 1


async def test_a_wake_up_may_have_a_time_in_the_past() -> None:
    service = waking(at=datetime(2026, 1, 1, tzinfo=UTC))
    async with Harness(service) as harness:
        await harness.send(PLACED)
        await harness.advance(timedelta())
        state = await harness.state(service.registry.processes["OrderState"], "o-1")
    assert state is not None
    assert state.notes == ["2026-01-01T00:00:00+00:00"]


async def test_a_wake_up_without_a_handler_is_told_where_it_is_asked_for() -> None:
    service = Service("orders-svc", version="1")
    orders = service.process(OrderState, by=lambda event: event.order_id)

    @orders.starts(OrderPlaced)
    async def placed(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None:
        ctx.wake("payment-late", after=timedelta(hours=1))

    async with Harness(service, max_attempts=1) as harness:
        outcome = await harness.send(PLACED)
    assert outcome.failure is not None
    assert "no handler is registered with wakes('payment-late')" in outcome.failure.message
