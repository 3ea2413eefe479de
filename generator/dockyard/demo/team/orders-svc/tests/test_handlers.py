"""The process of orders-svc on a bus and a store in memory."""

from datetime import timedelta

from chassis.testing import Harness

from acme.billing.v1.payments_pb2 import PaymentTaken
from acme.orders.v1.orders_pb2 import (
    OrderPlaced,
    PaymentWanted,
    RefundWanted,
    ReminderWanted,
    ShipmentRefused,
    ShipmentWanted,
)
from orders_svc.handlers import service


async def test_a_refused_order_is_undone() -> None:
    async with Harness(service) as harness:
        await harness.send(OrderPlaced(order_id="o-1", country="atlantis"))
        await harness.send(PaymentTaken(order_id="o-1"))
        await harness.send(ShipmentRefused(order_id="o-1"))
        assert harness.published == [
            PaymentWanted(order_id="o-1"),
            ShipmentWanted(order_id="o-1", country="atlantis"),
            RefundWanted(order_id="o-1"),
        ]


async def test_a_customer_is_reminded_of_a_transfer() -> None:
    async with Harness(service) as harness:
        await harness.send(OrderPlaced(order_id="o-1", transfer=True))
        await harness.advance(timedelta(seconds=2))
        assert harness.published == [ReminderWanted(order_id="o-1")]
