"""The order process of the tests: placed, paid, shipped; refused and undone; late and cancelled."""

from datetime import timedelta

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
from chassis.processes.wakeups import WakeUp

PAYMENT_TIME = timedelta(hours=1)


def order_service(name: str = "orders-svc") -> Service:
    """A new service called `name` with the process `OrderState`."""
    service = Service(name, version="1.2.3")
    orders = service.process(OrderState, by=lambda event: event.order_id)

    @orders.starts(OrderPlaced)
    async def placed(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None:
        state.order_id, state.amount = event.order_id, event.amount
        ctx.publish(PaymentWanted(order_id=event.order_id, amount=event.amount))
        ctx.wake("payment-late", after=PAYMENT_TIME)

    @orders.on(PaymentTaken)
    async def paid(state: OrderState, event: PaymentTaken, ctx: ProcessContext) -> None:
        if not state.paid:
            state.paid = True
            ctx.publish(ShipmentWanted(order_id=event.order_id))

    @orders.on(OrderShipped)
    async def shipped(state: OrderState, event: OrderShipped, ctx: ProcessContext) -> None:
        state.outcome = "shipped"
        ctx.complete()

    @orders.on(ShipmentRefused)
    async def refused(state: OrderState, event: ShipmentRefused, ctx: ProcessContext) -> None:
        state.outcome = "undone"
        ctx.publish(PaymentReturned(order_id=event.order_id, amount=state.amount))
        ctx.complete()

    @orders.wakes("payment-late")
    async def late(state: OrderState, wake: WakeUp, ctx: ProcessContext) -> None:
        if not state.paid:
            state.outcome = "cancelled"
            ctx.publish(OrderCancelled(order_id=ctx.key))
            ctx.complete()

    return service
