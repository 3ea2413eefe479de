"""Opens an account for everybody who signs up; takes and returns payments."""

import asyncio

from chassis import Context, Service

from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.billing.v1.payments_pb2 import PaymentReturned, PaymentTaken
from acme.orders.v1.orders_pb2 import PaymentWanted, RefundWanted
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from billing_svc.provider import call_provider

service = Service("billing-svc")


@service.on(UserSignedUp)
async def open_account(event: UserSignedUp, ctx: Context) -> None:
    call_provider(service.name, ctx.event_id, ctx.idempotency_key)
    await asyncio.sleep(0.2)  # until the payment provider has answered
    ctx.publish(AccountOpened(user_id=event.user_id, account_id=f"a-{event.user_id}"))


@service.on(PaymentWanted)
async def take_payment(event: PaymentWanted, ctx: Context) -> None:
    call_provider(service.name, f"charge {event.order_id}", ctx.idempotency_key)
    ctx.publish(PaymentTaken(order_id=event.order_id))


@service.on(RefundWanted)
async def return_payment(event: RefundWanted, ctx: Context) -> None:
    call_provider(service.name, f"refund {event.order_id}", ctx.idempotency_key)
    ctx.publish(PaymentReturned(order_id=event.order_id))
