"""A service with a process that is killed on its way. It writes down what it published.

python -m tests.chaos.order_victim run
"""

import os
import sqlite3
from datetime import UTC, datetime, timedelta

from acme.orders.v1.order_pb2 import (
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    OrderState,
    PaymentReturned,
    PaymentTaken,
    ShipmentRefused,
    ShipmentWanted,
)

from chassis import Context, ProcessContext, Service, WakeUp
from chassis.cli import main

UNPAID = 0
"""The amount of an order that nobody pays: it is cancelled when its time is over."""
PAYMENT_SECONDS = 2

service = Service("billing-svc", version="1.0.0")
orders = service.process(OrderState, by=lambda event: event.order_id)
ledger = sqlite3.connect(os.environ.get("CHAOS_SINK", ":memory:"), isolation_level=None, timeout=60)


@orders.starts(OrderPlaced)
async def placed(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None:
    state.order_id, state.amount = event.order_id, event.amount
    if event.amount == UNPAID:
        ctx.wake("payment-late", after=timedelta(seconds=PAYMENT_SECONDS))


@orders.on(PaymentTaken)
async def paid(state: OrderState, event: PaymentTaken, ctx: ProcessContext) -> None:
    state.paid = True
    state.notes.append("paid")
    ctx.publish(ShipmentWanted(order_id=event.order_id))
    _end(state, ctx)


@orders.on(OrderShipped)
async def shipped(state: OrderState, event: OrderShipped, ctx: ProcessContext) -> None:
    state.outcome = "shipped"
    state.notes.append("shipped")
    _end(state, ctx)


@orders.on(ShipmentRefused)
async def refused(state: OrderState, event: ShipmentRefused, ctx: ProcessContext) -> None:
    state.outcome = "undone"
    state.notes.append("refused")
    ctx.publish(PaymentReturned(order_id=event.order_id, amount=state.amount))
    _end(state, ctx)


@orders.wakes("payment-late")
async def late(state: OrderState, wake: WakeUp, ctx: ProcessContext) -> None:
    if datetime.now(UTC) < wake.due:
        raise AssertionError("woken too early")
    state.outcome = "cancelled"
    state.notes.append("cancelled")
    ctx.publish(OrderCancelled(order_id=ctx.key))
    ctx.complete()


def _end(state: OrderState, ctx: ProcessContext) -> None:
    """The events come in any order: the last of the two ends the process."""
    if state.paid and state.outcome:
        ctx.complete()


@service.on(ShipmentWanted)
async def note_shipment(event: ShipmentWanted, ctx: Context) -> None:
    _note(event, ctx)


@service.on(PaymentReturned)
async def note_return(event: PaymentReturned, ctx: Context) -> None:
    _note(event, ctx)


@service.on(OrderCancelled)
async def note_cancelled(event: OrderCancelled, ctx: Context) -> None:
    _note(event, ctx)


def _note(event: ShipmentWanted | PaymentReturned | OrderCancelled, ctx: Context) -> None:
    cause = f"{type(event).__name__} {event.order_id}"
    ledger.execute("INSERT INTO published (cause, event_id) VALUES (?, ?)", (cause, ctx.event_id))


if __name__ == "__main__":
    main(service)
