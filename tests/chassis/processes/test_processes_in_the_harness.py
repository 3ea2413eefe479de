"""Processes as a team's own tests see them."""

import pytest
from acme.orders.v1.order_pb2 import (
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
from chassis.testing import Harness
from tests.chassis.processes.order_process import order_service

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
