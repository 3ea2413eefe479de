"""An order: paid, then shipped. If it cannot be shipped, its payment is returned."""

import asyncio
from datetime import timedelta

from chassis import Context, ProcessContext, Service, WakeUp

from acme.billing.v1.payments_pb2 import PaymentReturned, PaymentTaken
from acme.orders.v1.orders_pb2 import (
    OrderPlaced,
    OrderShipped,
    OrderState,
    PaymentWanted,
    RefundWanted,
    ReminderWanted,
    ShipmentRefused,
    ShipmentWanted,
)
from orders_svc.provider import call_provider

service = Service("orders-svc")
orders = service.process(OrderState, by=lambda event: event.order_id)


@orders.starts(OrderPlaced)
async def placed(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None:
    state.country = event.country
    if event.transfer:
        ctx.wake("unpaid", after=timedelta(seconds=2))
    else:
        ctx.publish(PaymentWanted(order_id=event.order_id))


@orders.wakes("unpaid")
async def unpaid(state: OrderState, wake: WakeUp, ctx: ProcessContext) -> None:
    if not state.paid:
        ctx.publish(ReminderWanted(order_id=ctx.key))


@orders.on(PaymentTaken)
async def paid(state: OrderState, event: PaymentTaken, ctx: ProcessContext) -> None:
    state.paid = True
    ctx.publish(ShipmentWanted(order_id=event.order_id, country=state.country))


@orders.on(OrderShipped)
async def shipped(state: OrderState, event: OrderShipped, ctx: ProcessContext) -> None:
    ctx.complete()


@orders.on(ShipmentRefused)
async def refused(state: OrderState, event: ShipmentRefused, ctx: ProcessContext) -> None:
    ctx.publish(RefundWanted(order_id=event.order_id))


@orders.on(PaymentReturned)
async def undone(state: OrderState, event: PaymentReturned, ctx: ProcessContext) -> None:
    ctx.complete()


@service.on(ShipmentWanted)
async def ship(event: ShipmentWanted, ctx: Context) -> None:
    await asyncio.sleep(0.2)  # until the carrier has answered
    if event.country == "atlantis":
        ctx.publish(ShipmentRefused(order_id=event.order_id))
    else:
        call_provider(service.name, f"ship {event.order_id}", ctx.idempotency_key)
        ctx.publish(OrderShipped(order_id=event.order_id))
